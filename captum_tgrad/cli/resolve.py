"""Resolves the network, the device, the class and the methods that the options name."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path
from runpy import run_path
from traceback import extract_tb

import torch
from PIL import Image

from captum_tgrad._support.suggest import few
from captum_tgrad._support.untouched import training_modules
from captum_tgrad.evaluation import METHODS, Method, get_method, read_methods
from captum_tgrad.evaluation.distributed import own_device
from captum_tgrad.zoo import Classifier, load_classifier, resolve_target
from captum_tgrad.zoo.class_names import read_class_names
from captum_tgrad.zoo.classifier import classified

_LONGEST_REASON = 150


def choose_device(name: str | None) -> torch.device:
    """The device of this name, such as ``"cuda:1"``; for None, CUDA if available, else the CPU.

    Raises:
        ValueError: The device is not available.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # The sum checks that the device can also compute.
        torch.ones(2, device=device).sum().cpu()
    # Torch raises one of these for an unknown name, a missing driver, a build without the device,
    # and the meta device.
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(f"device {name!r} is not available: try cpu ({_reason(error)})") from error
    return device


def _reason(error: Exception) -> str:
    """The first sentence of a torch error, which may be a page long."""
    message = str(error).split("\n")[0]
    if message.startswith("Expected one of"):  # and twenty names
        return "torch knows no such device"
    if message.startswith("Could not run"):
        return "this torch was built without it"
    first = message.split(". ")[0].rstrip(".")
    return first if len(first) <= _LONGEST_REASON else f"{first[:_LONGEST_REASON]}..."


def load_for(options: argparse.Namespace) -> Classifier:
    """Loads the network onto the device.

    Raises as ``choose_device``, ``load_classifier``, ``_classifier_in`` and ``_check``.
    """
    device = own_device(choose_device(options.device))
    is_own_file = options.model.endswith(".py")
    if is_own_file:
        if options.weights or options.class_names or options.resize != "crop":
            raise ValueError(
                "--weights, --class-names and --resize do not apply to a Python file: load the"
                f" weights, name the classes and resize in {options.model}"
            )
        classifier = _classifier_in(Path(options.model))
    else:
        names = None if options.class_names is None else read_class_names(options.class_names)
        classifier = load_classifier(options.model, options.weights, names, options.resize)
    classifier.model.to(device)
    if is_own_file:
        _check(classifier, options.model)
    return classifier


def _classifier_in(path: Path) -> Classifier:
    """Runs a Python file of the user; returns its ``classifier``.

    Raises FileNotFoundError if there is no file, and ValueError if it fails or has no classifier.
    """
    if not path.is_file():
        raise FileNotFoundError(f"model {path} not found: pass a Python file, or a name")
    try:
        with redirect_stdout(sys.stderr):  # standard output is for results, such as --json
            found = run_path(str(path)).get("classifier")
    except Exception as error:
        lines = [at.lineno for at in extract_tb(error.__traceback__) if at.filename == str(path)]
        where = f", line {lines[-1]}" if lines else ""
        advice = ": install it, or put its folder on PYTHONPATH"
        advice *= isinstance(error, ModuleNotFoundError)
        raise ValueError(f"{path}{where}: {type(error).__name__}: {error}{advice}") from error
    if not isinstance(found, Classifier):
        what = "no classifier" if found is None else f"a classifier of type {type(found).__name__}"
        raise ValueError(f"{path} has {what}: write classifier = Classifier(...) in it")
    return found


def _check(classifier: Classifier, path: str) -> None:
    """Raises ValueError if a network of the user is in training mode, or has other classes."""
    if training := training_modules(classifier.model):
        raise ValueError(
            f"the model in {path} is in training mode: call model.eval() in the file. In training"
            f" mode: {few(training, 5)}"
        )
    classified(classifier, [Image.new("RGB", (224, 224))], None)


def chosen_target(options: argparse.Namespace, classifier: Classifier) -> int | None:
    """The class to explain, None for the predicted one; raises as ``resolve_target``."""
    if options.target is None:
        return None
    return resolve_target(options.target, classifier.class_names)


def chosen_methods(options: argparse.Namespace) -> list[Method]:
    """The named methods, each once, also if given by name and by title; or all.

    Raises ValueError if none or an unknown one is named, and as ``read_methods``.
    """
    further: dict[str, Method] = {}
    if options.config is not None:
        further = read_methods(options.config, allow_imports=options.allow_imports)
        if taken := sorted(further.keys() & METHODS.keys()):
            where = f"[{taken[0]}] of {options.config}"
            raise ValueError(f"{where} has the name of a built-in method: choose another")
    elif options.allow_imports:
        raise ValueError("--allow-imports applies to --config only: pass --config FILE")
    if options.methods.strip() == "all":
        return list({**METHODS, **further}.values())
    names = [name.strip() for name in options.methods.split(",") if name.strip()]
    if not names:
        raise ValueError("--methods is empty: pass names separated by commas, or all")
    methods = [get_method(name, further) for name in names]
    return list({method.name: method for method in methods}.values())
