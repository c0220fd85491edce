"""Classifiers by name, with their images and class names.

Attributions accept any callable and do not depend on this package. torchvision is imported when a
name is first used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_tgrad._support.lazy import lazy

if TYPE_CHECKING:
    from captum_tgrad.zoo.class_names import resolve_target as resolve_target
    from captum_tgrad.zoo.classifier import Classifier as Classifier
    from captum_tgrad.zoo.images import load_image as load_image
    from captum_tgrad.zoo.images import sample_image as sample_image
    from captum_tgrad.zoo.load import classifier_names as classifier_names
    from captum_tgrad.zoo.load import load_classifier as load_classifier

# To a type checker, a module with a __getattr__ has every name.
if not TYPE_CHECKING:
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "Classifier": "classifier",
            "classifier_names": "load",
            "load_classifier": "load",
            "load_image": "images",
            "resolve_target": "class_names",
            "sample_image": "images",
        },
    )
