"""Classifiers that can be loaded by name, and the images and class names that go with them.

Everything here is at the edge of the package: what explains a network takes any callable, and needs
nothing from this folder. torchvision is imported when a classifier is loaded, not before.
"""

from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.images import load_image, sample_image
from captum_tgrad.zoo.load import classifier_names, load_classifier
from captum_tgrad.zoo.targets import resolve_target

__all__ = [
    "Classifier",
    "classifier_names",
    "load_classifier",
    "load_image",
    "resolve_target",
    "sample_image",
]
