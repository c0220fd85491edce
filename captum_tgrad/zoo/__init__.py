"""Classifiers by name, with their images and class names.

Attributions accept any callable and do not depend on this package.
"""

from captum_tgrad.zoo.class_names import resolve_target
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.images import load_image, sample_image
from captum_tgrad.zoo.load import classifier_names, load_classifier

__all__ = [
    "Classifier",
    "classifier_names",
    "load_classifier",
    "load_image",
    "resolve_target",
    "sample_image",
]
