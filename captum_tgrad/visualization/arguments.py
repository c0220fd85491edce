"""Arguments with one value for each image or method, and choices of what to draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from numbers import Integral
from typing import Any

import numpy as np
from torch import Tensor

from captum_tgrad._support.arguments import got
from captum_tgrad.metrics.engine.regions import checked_boxes, is_one_box
from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.zoo.classifier import Box


def by_method(value: Any, argument: str) -> dict[str, Any]:
    """A dict by method, with an empty name for the value of a single method.

    Names become strings: methods may be numbered. Raises ValueError if two become the same string.
    """
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{argument} is empty: pass at least one method")
        named = {str(name): each for name, each in value.items()}
        if len(named) < len(value):
            raise ValueError(
                f"{argument} has several methods of one name among {[*value]}: names are compared"
                " as strings, so 1 and '1' are one. Rename one of them"
            )
        return named
    return {"": value}


def check_one_each(given: Sized, images: int, argument: str) -> None:
    """Raises ValueError unless ``given`` has one entry for each image."""
    if len(given) != images:
        raise ValueError(f"{argument} must have one entry per image, got {len(given)} for {images}")


def one_each(values: Any, images: int, argument: str) -> list[Any]:
    """A list with one value for each image, all None if ``values`` is.

    A single text or number is that of a single image.
    """
    if values is None:
        return [None] * images
    if isinstance(values, Tensor):
        values = values.detach().flatten()
    if hasattr(values, "tolist"):  # a tensor, or an array or a number of numpy
        values = values.tolist()
    if isinstance(values, (str, float, int)):
        values = [values]
    check_one_each(values, images, argument)
    return list(values)


def number_or_names(value: Any, argument: str) -> int | list[Any]:
    """How many to draw, or the names of those to draw; raises TypeError for other objects."""
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, (str, Tensor)) or not isinstance(value, Iterable):
        kind = type(value).__name__
        raise TypeError(f"{argument} must be a number or a list of names, got {kind}")
    return list(value)


def parts_seen(seen: Any, sizes: Sequence[tuple[int, int]]) -> list[Box]:
    """The seen part of each image; raises ValueError unless the image holds it."""
    if seen is None:
        return [(0, 0, width, height) for height, width in sizes]
    given = [seen] if len(seen) and not np.iterable(seen[0]) else list(seen)
    check_one_each(given, len(sizes), "seen")
    parts = []
    for box, (height, width) in zip(given, sizes, strict=True):
        left, top, right, bottom = (int(side) for side in box) if len(box) == 4 else (0, 0, 0, 0)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"seen must be left, top, right and bottom within the image of {width} x {height}"
                f" pixels, got {tuple(box)}"
            )
        parts.append((left, top, right, bottom))
    return parts


def boxes_of_pictures(boxes: Any, sizes: Sequence[tuple[int, int]]) -> list[Array | None]:
    """The boxes of each image, ``(boxes, 4)``; None without boxes.

    Raises TypeError or ValueError for boxes that ``explanation_figure`` does not accept.
    """
    if boxes is None:
        return [None] * len(sizes)
    if len(sizes) == 1 and isinstance(boxes, Tensor) and boxes.dim() == 2:
        boxes = [boxes]
    if not isinstance(boxes, (Tensor, Sequence)) or isinstance(boxes, str):
        raise TypeError(
            f"boxes must be a tensor (N, 4) or a list with one for each image, got {got(boxes)}"
        )
    if len(boxes) != len(sizes):
        hint = ": pass a single box as [[x0, y0, x1, y1]]" * is_one_box(boxes)
        raise ValueError(
            f"boxes must have one entry per image, got {len(boxes)} for {len(sizes)}{hint}"
        )
    return [
        checked_boxes(each, size, f"boxes[{number}]").numpy()
        for number, (each, size) in enumerate(zip(boxes, sizes, strict=True))
    ]
