"""Draws a map over a whole photo, with the part that the network did not see in gray."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.zoo.classifier import Box

_GRAY = 0.75
# The share of its contrast that a photo keeps outside of the box.
_CONTRAST = 0.35


def checked_seen(box: Any, size: tuple[int, int]) -> Box:
    """The box as integers; raises ValueError unless an image of this height and width holds it."""
    height, width = size
    left, top, right, bottom = (int(side) for side in box) if len(box) == 4 else (0, 0, 0, 0)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ValueError(
            f"seen must be left, top, right and bottom within the image of {width} x {height}"
            f" pixels, got {tuple(box)}"
        )
    return left, top, right, bottom


def padded(values: Array, box: Box, size: tuple[int, int]) -> Array:
    """A map of the part in the box as one of the whole image, 0 elsewhere."""
    left, top, right, bottom = box
    return np.pad(values, ((top, size[0] - bottom), (left, size[1] - right)))


def gray_out(axes: Axes, box: Box, size: tuple[int, int], picture: Array | None) -> None:
    """Grays out what is outside of the box, over ``picture``, ``(H, W, 3)`` in [0, 1], if given."""
    left, top, right, bottom = box
    if (left, top, right, bottom) == (0, 0, size[1], size[0]):
        return
    gray = np.full((*size, 4), _GRAY)
    if picture is not None:
        faint = _CONTRAST * (picture.mean(axis=2, keepdims=True) - 0.5) + _GRAY
        gray[..., :3] = faint.clip(0, 1)
    gray[..., 3] = 1
    gray[top:bottom, left:right, 3] = 0
    axes.imshow(gray)
