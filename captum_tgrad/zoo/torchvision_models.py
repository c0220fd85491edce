"""torchvision's classifiers, with their own weights or weights from a file."""

from __future__ import annotations

import re
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torchvision.models
from torch import Tensor

from captum_tgrad.zoo.checkpoint import read_state_dict
from captum_tgrad.zoo.preprocessing import Preprocessing
from captum_tgrad.zoo.recipe import Recipe

# The names that torchvision's published DenseNet files still have: "denselayer1.norm.1.weight".
_OLD_DENSENET_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


def architectures() -> list[str]:
    """The names of torchvision's image classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


def torchvision_model(architecture: str, weights: str | Path | None) -> Recipe:
    """One of ``architectures()``; ``weights`` are as for ``load_classifier``."""
    if weights is None:
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        state_dict, source = _download(architecture, published), str(published.url)
    else:
        published = _published_as(architecture, Path(weights).name)
        state_dict, source = read_state_dict(weights), str(weights)
    state_dict = _with_current_keys(state_dict)
    options = _build_options(architecture, published, state_dict)
    steps = published.transforms()
    preprocessing = Preprocessing(
        resize_size=steps.resize_size[0],
        crop_size=steps.crop_size[0],
        interpolation=steps.interpolation,
        mean=tuple(steps.mean),
        std=tuple(steps.std),
    )
    return Recipe(
        build=lambda classes: torchvision.models.get_model(
            architecture, weights=None, num_classes=classes, **options
        ),
        state_dict=state_dict,
        source=source,
        preprocessing=preprocessing,
    )


def _download(architecture: str, published: Any) -> dict[str, Tensor]:
    """Downloads published weights, as data only; raises ConnectionError if that fails."""
    try:
        state_dict: dict[str, Tensor] = published.get_state_dict(
            progress=True, check_hash=True, weights_only=True, map_location="cpu"
        )
        return state_dict
    # HTTPException: a broken transfer. RuntimeError: a hash that does not match.
    except (OSError, HTTPException, RuntimeError) as error:
        raise ConnectionError(
            f"the weights of torchvision:{architecture} could not be downloaded ({error}): download"
            f" {published.url} elsewhere and pass the file as weights (--weights FILE)"
        ) from error


def _published_as(architecture: str, file_name: str) -> Any:
    """The entry of torchvision for a published file, else its default for the architecture.

    The published weights of an architecture may have different image sizes.
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
        # In place and in order: the object carries the version of each module's weights.
        state_dict[current] = state_dict.pop(key)
    return state_dict


def _build_options(
    architecture: str, published: Any, state_dict: dict[str, Tensor]
) -> dict[str, Any]:
    """The arguments with which torchvision builds the network that the file was saved from."""
    if architecture in ("googlenet", "inception_v3"):
        return {
            # As for torchvision's own weights, from which others are fine-tuned; files do not say.
            "transform_input": True,
            "aux_logits": any(key.startswith(("aux", "AuxLogits")) for key in state_dict),
            "init_weights": False,
        }
    return {"image_size": published.meta["min_size"][0]} if architecture.startswith("vit_") else {}
