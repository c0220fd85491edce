"""The regions of the objects in images, as masks or boxes by image name."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad import metrics
from captum_tgrad._support.arguments import got
from captum_tgrad.evaluation.box_files import BoxRegions
from captum_tgrad.metrics.engine.regions import as_masks, mask_of_boxes, numbers_of


def region_of(regions: Mapping[str, Any] | None, image: str, size: torch.Size) -> Tensor | None:
    """The pixels of an image in its region, ``(1, H, W)``, bool; None if none is known.

    Raises TypeError if the region holds no numbers, and ValueError if it does not fit the image.
    """
    region = None if regions is None else regions.get(image)
    if region is None:
        return None
    if isinstance(region, Tensor) and (
        region.dtype == torch.bool or (region.dim() == 2 and region.shape[1] != 4)
    ):
        return as_masks(region[None], 1, (size[0], size[1]), torch.device("cpu"))
    return mask_of_boxes(region, (size[0], size[1]), f"regions[{image!r}]")[None]


def described_regions(regions: Mapping[str, Any] | None, images: Sequence[str]) -> dict[str, Any]:
    """The protocol entries of the regions; empty without regions.

    Raises TypeError unless they are a mapping to numbers, and ValueError if no image has a region.
    """
    if regions is None:
        return {}
    if not isinstance(regions, Mapping):
        raise TypeError(
            "regions must be a mapping from image names to masks or boxes, got"
            f" {type(regions).__name__}."
        )
    known = [name for name in images if name in regions]
    if not known:
        raise ValueError(
            f"regions has no image of the data set, whose names are {list(images[:3])}, ..."
        )
    digest = _digest(regions, [*regions] if isinstance(regions, BoxRegions) else known)
    tolerance = inspect.signature(metrics.pointing_game).parameters["tolerance"].default
    return {"regions": digest, "tolerance": tolerance}


def region_digest(regions: Mapping[str, Any] | None, image: str) -> str | None:
    """A short hash of the region of an image, "none" if it has none; None without regions."""
    if regions is None:
        return None
    return _digest(regions, [image]) if image in regions else "none"


def _digest(regions: Mapping[str, Any], known: Sequence[str]) -> str:
    if isinstance(regions, BoxRegions):
        return regions.digest(known)
    found = hashlib.sha256()
    for name in known:
        region = regions[name]
        if not isinstance(region, (Tensor, list, tuple)):
            raise TypeError(f"regions[{name!r}] must be a mask or boxes, got {got(region)}.")
        values = numbers_of(region, f"regions[{name!r}]")
        found.update(f"{name} {tuple(values.shape)}".encode() + values.numpy().tobytes())
    return found.hexdigest()[:16]
