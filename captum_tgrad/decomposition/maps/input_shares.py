"""Divides the elements of a tensor among the inputs on which they depend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import input_axis
from captum_tgrad.decomposition.places.places import Places


def input_shares(places: Places) -> Mapping[int, Tensor]:
    """Divides each element of a tensor equally among the inputs on which it depends.

    If two inputs were joined in one tensor, as in a siamese network or a model of images and text,
    an element may depend on one of them only. Padding gets the inputs of the padded elements.

    Returns:
        The share of each input, by its number, with size 1 in dimensions along which none changes.
        All have the same shape, and their sum is 1.
    """
    coordinates = [places.coordinates[input_axis(number)] for number in places.inputs]
    by_input = [reduce(torch.logical_or, [c.index > 0 for c in own]) for own in coordinates]
    depends = _with_padding(torch.stack(torch.broadcast_tensors(*by_input)))  # type: ignore[no-untyped-call]
    return dict(zip(places.inputs, depends.double() / depends.sum(0), strict=True))


def _with_padding(depends: Tensor) -> Tensor:
    """Gives elements without an input the inputs of the others along a dimension, if these agree.

    The shape is ``(inputs, *elements)``. Elements that still have none depend on all inputs.
    """
    for dim in range(1, depends.dim()):
        beside = depends.any(dim, keepdim=True)
        has = depends.any(0)
        agree = ((depends == beside) | ~has).all(dim, keepdim=True).all(0)
        depends = depends | (beside & agree & ~has)
    return torch.where(depends.any(0), depends, True)
