"""Compares attribution methods by name, on one image (``compare``) or on a data set (``evaluate``).

To read the code, start with ``evaluate.py``. It takes the methods from ``methods/`` and the images
from ``samples.py``, keeps records with ``storage/``, lets ``running/`` explain and score the images
of this process, and summarizes all records with ``report/``.
"""

from captum_tgrad.evaluation.box_files import boxes_of
from captum_tgrad.evaluation.compare import Comparison, compare
from captum_tgrad.evaluation.evaluate import Evaluation, evaluate
from captum_tgrad.evaluation.image_files import ImageFiles, built_in_images, images_in
from captum_tgrad.evaluation.methods.built_in import METHODS, get_method
from captum_tgrad.evaluation.methods.from_toml import read_methods
from captum_tgrad.evaluation.methods.method import Explainer, Method
from captum_tgrad.evaluation.report.summary import summarize
from captum_tgrad.evaluation.storage.files import OutputError

__all__ = [
    "METHODS",
    "Comparison",
    "Evaluation",
    "Explainer",
    "ImageFiles",
    "Method",
    "OutputError",
    "boxes_of",
    "built_in_images",
    "compare",
    "evaluate",
    "get_method",
    "images_in",
    "read_methods",
    "summarize",
]
