"""Attribution methods compared: by name, on one picture or on a data set."""

from captum_tgrad.evaluation.method import Explainer, Method
from captum_tgrad.evaluation.method_file import read_methods
from captum_tgrad.evaluation.methods import METHODS, get_method

__all__ = ["METHODS", "Explainer", "Method", "get_method", "read_methods"]
