"""Lists and loads classifiers by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

import torchvision.models

from captum_tgrad._support.extras import is_installed
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.zoo.class_names import imagenet_class_names, names_for
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.packaged_networks import PACKAGES, packaged_network
from captum_tgrad.zoo.preprocessing import Resize
from captum_tgrad.zoo.recipe import build_with, count_classes
from captum_tgrad.zoo.torchvision_models import architectures, torchvision_model

_TORCHVISION = "torchvision:"
# Parameters, and multiply-adds as torch.utils.flop_counter and torchvision's metadata count them.
_SIZES = {
    "efficientnet_lite0": (4_652_008, 0.385e9),
    "efficientnet_lite1": (5_416_680, 0.600e9),
    "efficientnet_lite2": (6_092_072, 0.860e9),
    "squeezenet1_1": (1_235_496, 0.388e9),
}


def classifier_names() -> list[str]:
    """All names for ``load_classifier``."""
    return [*PACKAGES, *(f"{_TORCHVISION}{name}" for name in architectures())]


def listed_models() -> list[dict[str, Any]]:
    """The facts about each classifier, for a table; those without a download come first.

    ``multiply_adds`` are those of a forward pass for one image. ``extra`` is the extra of this
    package that the classifier needs; empty if none.
    """
    keys = ("name", "parameters", "multiply_adds", "source", "extra", "installed")
    rows: list[tuple[object, ...]] = [
        (name, *_SIZES[name], "with the extra", extra, is_installed(*modules))
        for name, (extra, *modules) in PACKAGES.items()
    ]
    for name in architectures():
        meta = torchvision.models.get_model_weights(name).DEFAULT.meta
        source = f"download, {meta['_file_size']:.0f} MB"
        cost = meta["_ops"] * 1e9
        rows.append((f"{_TORCHVISION}{name}", meta["num_params"], cost, source, "", True))
    return [dict(zip(keys, row, strict=True)) for row in rows]


def load_classifier(
    name: str = "efficientnet_lite0",
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
) -> Classifier:
    """Loads an image classifier.

    Args:
        name: ``"efficientnet_lite0"``, ``"efficientnet_lite1"``, ``"efficientnet_lite2"`` or
            ``"squeezenet1_1"``, whose ImageNet weights need no download (the last three need the
            extra ``lite``); or ``"torchvision:NAME"`` for any torchvision classifier.
        weights: A file written by ``torch.save(model.state_dict(), path)``. No code in the file is
            run. The network uses the number of classes of the last layer in the file. None: the
            published weights, which torchvision downloads on first use.
        class_names: A name for each class. None: those of ImageNet if the number fits, else
            ``"class 0"``, ``"class 1"``, ...
        resize: How an image becomes a square input. ``"crop"``: the center crop, as in training.
            ``"squash"``: the whole image without its aspect ratio. ``"pad"``: the whole image with
            a border.

    Returns:
        The classifier, on the CPU and in evaluation mode.

    Raises:
        TypeError: ``name`` is not a string, or ``weights`` not a path.
        ValueError: ``name`` or ``resize`` is unknown, the file is not a state dict or does not
            match the network, ``class_names`` has the wrong length, or there is only one class.
        FileNotFoundError: The file ``weights`` does not exist.
        ConnectionError: The weights cannot be downloaded.
        ModuleNotFoundError: An extra of this package is missing.
    """
    if not isinstance(name, str):
        raise TypeError(
            f"name must be the name of a classifier, got {type(name).__name__}: for a model of your"
            " own, construct captum_tgrad.zoo.Classifier"
        )
    if not isinstance(weights, (str, os.PathLike, NoneType)):
        raise TypeError(
            f"weights must be the path of a file, got {type(weights).__name__}: write a state dict"
            " with torch.save(state_dict, FILE)"
        )
    if name in PACKAGES:
        recipe = packaged_network(name, weights)
    elif name in classifier_names():
        recipe = torchvision_model(name.removeprefix(_TORCHVISION), weights)
    else:
        raise ValueError(f"model {name!r} not found: {_advice(name)}")
    count = count_classes(recipe.state_dict) or len(imagenet_class_names())
    preprocessing = replace(recipe.preprocessing, resize=resize)
    return Classifier(
        name=name,
        model=build_with(partial(recipe.build, count), recipe.state_dict, recipe.source).eval(),
        class_names=names_for(count, class_names),
        preprocess=preprocessing,
        crop=preprocessing.crop,
    )


def _advice(name: str) -> str:
    """Suggests similar names, also for a missing "torchvision:"; none of another library."""
    if Path(name).suffix[1:].isalpha():
        return "pass the name of a network, and a file of weights as weights (--weights FILE)"
    wanted = name.casefold().replace("-", "_").removeprefix(_TORCHVISION)
    # Reversed, so that of two networks of one name the built-in one is kept: it needs no download.
    names = {full.removeprefix(_TORCHVISION): full for full in reversed(classifier_names())}
    otherwise = (
        f"pass {', '.join(PACKAGES)} or {_TORCHVISION}NAME; for any other network, construct a"
        " Classifier (--model FILE.py)"
    )
    return did_you_mean(wanted, () if ":" in wanted else names, otherwise, show=names.__getitem__)
