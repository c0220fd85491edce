"""Resolves the network and the class that the options name."""

from __future__ import annotations

import argparse

from captum_tgrad.zoo import Classifier, load_classifier, resolve_target
from captum_tgrad.zoo.class_names import read_class_names


def load_for(options: argparse.Namespace) -> tuple[Classifier, int | None]:
    """Loads the network, and finds the target among its classes.

    Raises:
        ValueError: The network or class is unknown, or a file is invalid.
        FileNotFoundError: A file does not exist.
        ModuleNotFoundError: The network needs an extra that is not installed.
    """
    names = None if options.class_names is None else read_class_names(options.class_names)
    classifier = load_classifier(options.model, options.weights, names, options.resize)
    if options.target is None:
        return classifier, None
    return classifier, resolve_target(options.target, classifier.class_names)
