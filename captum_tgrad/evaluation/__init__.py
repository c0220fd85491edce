"""Attribution methods compared: by name, on one picture or on a data set."""

from captum_tgrad.evaluation.evaluate import Evaluation, evaluate
from captum_tgrad.evaluation.images import Pictures, built_in_pictures, pictures_in
from captum_tgrad.evaluation.method import Explainer, Method
from captum_tgrad.evaluation.method_file import read_methods
from captum_tgrad.evaluation.methods import METHODS, get_method
from captum_tgrad.evaluation.records import OutputError
from captum_tgrad.evaluation.summary import summarize

__all__ = [
    "METHODS",
    "Evaluation",
    "Explainer",
    "Method",
    "OutputError",
    "Pictures",
    "built_in_pictures",
    "evaluate",
    "get_method",
    "pictures_in",
    "read_methods",
    "summarize",
]
