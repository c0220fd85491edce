"""torchvision's classifiers, with their own weights or weights from a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torchvision.models
from torch import Tensor

from captum_tgrad.zoo.checkpoint import build_with, count_classes, read_state_dict
from captum_tgrad.zoo.class_names import names_for
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.preprocessing import Preprocessing, Resize

# The names that torchvision's published DenseNet files still have: "denselayer1.norm.1.weight".
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def architectures() -> list[str]:
    """Returns the names of torchvision's image classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


def load_torchvision(
    architecture: str,
    weights: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    resize: Resize = "crop",
) -> Classifier:
    """Builds one of ``architectures()``; the arguments are those of ``load_classifier``."""
    if weights is None:
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        state_dict, source = _download(architecture, published), str(published.url)
    else:
        published = _published_as(architecture, Path(weights).name)
        state_dict, source = read_state_dict(weights), str(weights)
    state_dict = _with_current_keys(state_dict)
    count = count_classes(state_dict) or len(published.meta["categories"])
    options = _build_options(architecture, count, published, state_dict)
    model = build_with(
        lambda: torchvision.models.get_model(architecture, weights=None, **options),
        state_dict,
        source,
    )
    steps = published.transforms()
    preprocessing = Preprocessing(
        resize_size=steps.resize_size[0],
        crop_size=steps.crop_size[0],
        interpolation=steps.interpolation,
        mean=tuple(steps.mean),
        std=tuple(steps.std),
        resize=resize,
    )
    return Classifier(
        name=f"torchvision:{architecture}",
        model=model.eval(),
        class_names=names_for(count, class_names, published.meta["categories"]),
        preprocess=preprocessing,
        crop=preprocessing.crop,
    )


def _download(architecture: str, published: Any) -> dict[str, Tensor]:
    """Downloads published weights, as data only; raises ConnectionError if that fails."""
    try:
        state_dict: dict[str, Tensor] = published.get_state_dict(
            progress=True, check_hash=True, weights_only=True, map_location="cpu"
        )
        return state_dict
    # Besides what sockets and files raise: a broken transfer, and a hash that does not fit.
    except (OSError, HTTPException, RuntimeError) as error:
        raise ConnectionError(
            f"the weights of torchvision:{architecture} could not be downloaded ({error}): download"
            f" {published.url} elsewhere and pass the file as weights (--weights FILE)"
        ) from error


def _published_as(architecture: str, file_name: str) -> Any:
    """Returns torchvision's entry for a published file, else its default for the architecture.

    Several published weights of one architecture have different image sizes.
    """
    entries = torchvision.models.get_model_weights(architecture)
    same = [
        entry
        for entry in entries
        # VGG16 has an entry without a classifier.
        if entry.url.rsplit("/", 1)[-1] == file_name and entry.meta["categories"]
    ]
    return same[0] if same else entries.DEFAULT


def _with_current_keys(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    for key in list(state_dict):
        current = _OLD_DENSENET_KEY.sub(r"\1\2.", key)
        # In the same order, and the same object: it carries the version of each module's weights.
        state_dict[current] = state_dict.pop(key)
    return state_dict


def _build_options(
    architecture: str, count: int, published: Any, state_dict: dict[str, Tensor]
) -> dict[str, Any]:
    """Returns the arguments with which torchvision builds what the file was saved from."""
    options: dict[str, Any] = {"num_classes": count}
    if architecture in ("googlenet", "inception_v3"):
        options |= {
            # As torchvision sets it for its own weights, from which others are fine-tuned; a file
            # does not say.
            "transform_input": True,
            "aux_logits": any(key.startswith(("aux", "AuxLogits")) for key in state_dict),
            "init_weights": False,
        }
    if architecture.startswith("vit_"):
        options["image_size"] = published.meta["min_size"][0]
    return options
