"""Arguments with one value for each image or method, and choices of what to draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from numbers import Integral
from typing import Any

from torch import Tensor


def by_method(value: Any, argument: str) -> dict[str, Any]:
    """A dict by method, with an empty name for the value of a single method.

    Names become strings: methods may be numbered.
    """
    if isinstance(value, Mapping):
        if not value:
            raise ValueError(f"{argument} is empty: pass at least one method")
        return {str(name): each for name, each in value.items()}
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
