"""Coordinates: the positions of a tensor's elements along one axis of an input.

Coordinates are integer tensors, so that an operation that moves elements can also run on them.
They have size 1 in every dimension along which they do not change: the row coordinates of a batch
of images have shape ``(1, 1, H, 1)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import (
    SLACK,
    borders_of,
    distinct_cells,
    even_cells,
    in_steps,
)

Array = TypeVar("Array", Tensor, np.ndarray)

SAMPLES = -1
LOST = -2
INPUTS = -3

ONE_CELL = even_cells(1, 1)
"""The only cell of an axis of ``INPUTS``."""

MOST_COORDINATES = 4
"""An element with more coordinates on one axis has no place on it."""


class Axis(NamedTuple):
    """The axis that coordinates are on.

    Args:
        input: The number of the input; ``SAMPLES`` for the samples of the batch; ``LOST`` for
            positions in the output of an operation that lost the places; ``INPUTS`` for an axis
            with one cell, which marks the elements that depend on one of several inputs.
        dim: The dimension of that input; for ``INPUTS``, the number of the input.
        extent: The number of elements along it.
        is_place: Whether its elements are positions, not channels.
        lost_at: For ``LOST``, the operation that lost the places.
    """

    input: int
    dim: int
    extent: int
    is_place: bool = True
    lost_at: str = ""

    @property
    def is_spatial(self) -> bool:
        """Whether it is an axis of positions on an input."""
        return self.is_place and self.input >= 0

    def holds(self, middle: Array) -> Array:
        """Whether positions are on the axis."""
        return (middle > -0.5 - SLACK) & (middle < self.extent - 0.5 + SLACK)


def input_axis(number: int) -> Axis:
    """The axis that marks the elements that depend on an input, if there are several inputs."""
    return Axis(INPUTS, number, 2, is_place=False)


class Coordinates:
    """The cell of each element of a tensor, along one axis.

    Args:
        index: The number of each element's cell, from 1; 0 if it has none. It has the shape of the
            tensor, with size 1 in the dimensions along which it does not change.
        cells: The middle and the width of each cell in pixels of the input: shape ``(cells, 2)``,
            sorted. Pixel ``i`` reaches from ``i - 0.5`` to ``i + 0.5``.
        by_sample: Whether the samples have different cells.

    Attributes:
        dims: The dimensions along which ``index`` changes.
    """

    __slots__ = ("__weakref__", "by_sample", "cells", "dims", "index")

    def __init__(self, index: Tensor, cells: Tensor, by_sample: bool = False) -> None:
        self.index = index
        self.cells = cells
        self.by_sample = by_sample
        self.dims = tuple(dim for dim, size in enumerate(index.shape) if size != 1)

    @property
    def has_everywhere(self) -> bool:
        """Whether each element has a cell."""
        return bool((self.index > 0).all())

    @property
    def may_be_subsampled(self) -> bool:
        """Whether all samples have the same cells, without gaps between the elements.

        Constants may surround the elements, as padding does.
        """
        if not self.dims or self.by_sample:
            return False
        has = self.index > 0
        for dim in self.dims:
            at = has.movedim(dim, 0).reshape(has.shape[dim], -1).any(1).nonzero()
            has = has.narrow(dim, int(at[0]), int(at[-1] - at[0]) + 1)
        return bool(has.all())

    def of_elements(self, values: Tensor, otherwise: float) -> Tensor:
        """The value of each element's cell; ``otherwise`` if it has none."""
        return torch.cat([values.new_full((1,), otherwise), values])[self.index]

    def borders(self) -> tuple[Tensor, Tensor]:
        """The borders of each element's cell; inf and -inf if it has none."""
        low, high = borders_of(self.cells)
        return self.of_elements(low, torch.inf), self.of_elements(high, -torch.inf)

    def moved(self, index: Tensor) -> Coordinates | None:
        """The coordinates of other elements in the same cells; None if none has a cell."""
        return compacted(index, self.cells, self.by_sample)

    def aligned(self, rank: int) -> Coordinates:
        """The coordinates with leading dimensions of size 1 added, as broadcasting does."""
        missing = rank - self.index.dim()
        if missing == 0:
            return self
        index = self.index.reshape([1] * missing + list(self.index.shape))
        return interned(index, self.cells, self.by_sample)


OnAxis = tuple[Axis, Coordinates]
"""Coordinates of elements, with their axis."""


_interned: WeakValueDictionary[object, Coordinates] = WeakValueDictionary()


def interned(index: Tensor, cells: Tensor, by_sample: bool) -> Coordinates:
    """Returns the same object for equal coordinates, so that it can be a key of caches."""
    steps = in_steps(cells)
    key = (tuple(index.shape), index.numpy().tobytes(), steps.numpy().tobytes(), by_sample)
    known = _interned.get(key)
    if known is None:
        known = _interned[key] = Coordinates(index, cells, by_sample)
    return known


@torch.no_grad()
def compacted(index: Tensor, cells: Tensor, by_sample: bool = False) -> Coordinates | None:
    """Makes coordinates, without constant dimensions and unused cells; None if no cell is left.

    The cells may be in any order and contain duplicates.
    """
    if index.numel() == 0:
        return None
    index = _without_constant_dims(index).long()  # ``long`` would copy an expanded index
    used = index.flatten().bincount(minlength=len(cells) + 1)[1:].nonzero().flatten()
    if len(used) == 0:
        return None
    kept = cells[used]
    if len(used) == len(cells) and bool((kept[:, 0].diff() > SLACK).all()):  # they are sorted
        return interned(index.contiguous(), kept, by_sample)
    unique, numbers = distinct_cells(kept)
    number = index.new_zeros(len(cells) + 1)
    number[used + 1] = numbers + 1
    return interned(number[index].contiguous(), unique.contiguous(), by_sample)


def _without_constant_dims(index: Tensor) -> Tensor:
    """Reduces dimensions along which the index does not change to size 1."""
    for dim in range(index.dim()):
        if index.shape[dim] != 1 and index.stride(dim) == 0:
            index = index.narrow(dim, 0, 1)
    for dim in range(index.dim()):
        first = index.narrow(dim, 0, 1)
        if index.shape[dim] != 1 and torch.equal(index, first.expand_as(index)):
            index = first
    return index


def hold_one_sample(cells: Tensor) -> Tensor:
    """Whether cells on the axis of ``SAMPLES`` are one sample, and not a mixture of several."""
    return cells[:, 1] < 1.5


def sample_index(samples: Coordinates | None) -> Tensor:
    """The index of the samples; without samples, all elements belong to one."""
    return torch.zeros((), dtype=torch.long, device="cpu") if samples is None else samples.index


def first_of_each(values: Tensor) -> tuple[Tensor, Tensor]:
    """The position at which each distinct value occurs first, and the number of each value."""
    unique, which = values.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    position = torch.arange(len(values), device="cpu")
    first = torch.full_like(unique, len(values)).scatter_reduce(0, which, position, "amin")
    return first, which


@torch.no_grad()
def extended_along(coords: Coordinates, dims: Iterable[int]) -> Coordinates:
    """Gives elements without a cell the cell of the others along ``dims``, if all have the same.

    The index ``[0, 3, 3, 0]`` becomes ``[3]``. If an image is copied into a larger tensor of zeros,
    the zeros beside the image get its row coordinates, and those above it its column coordinates.
    """
    index = coords.index
    for dim in dims:
        largest = index.amax(dim, keepdim=True)
        if bool(((index == largest) | (index == 0)).all()):
            index = largest
    return interned(index.contiguous(), coords.cells, coords.by_sample)


@torch.no_grad()
def of_each_sample(coords: Coordinates, samples: Coordinates) -> Coordinates:
    """Sets ``by_sample`` if the samples have different cells."""
    shape = (len(samples.cells), len(coords.cells))
    has = cells_of_samples([coords.index - 1], samples.index - 1, shape)
    return interned(coords.index, coords.cells, by_sample=not bool(has.all()))


def cells_of_samples(numbers: Iterable[Tensor], sample: Tensor, shape: tuple[int, int]) -> Tensor:
    """Whether each sample has elements in each cell.

    Args:
        numbers: The number of each element's cell, for each of the coordinates; -1 if it has none.
        sample: The sample of each element, -1 if it is unknown.
        shape: The number of samples and of cells.
    """
    has = torch.zeros(shape, dtype=torch.bool, device="cpu")
    for number in numbers:
        at, of = torch.broadcast_tensors(number, sample)  # type: ignore[no-untyped-call]
        known = (at >= 0) & (of >= 0)
        has[of[known], at[known]] = True
    return has


def from_borders(
    low: Tensor, high: Tensor, axis: Axis, by_sample: bool = False, sample: Tensor | None = None
) -> Coordinates | None:
    """Coordinates of cells from ``low`` to ``high``; no cell if ``high <= low``.

    A cell that covers the whole axis is dropped, unless the ``sample`` of each element is given and
    its sample has other cells, as after a cumulative sum. One that covers several samples is kept.
    """
    none = high <= low
    if axis.input != SAMPLES:
        slack = SLACK * axis.extent
        whole = (low <= slack - 0.5) & (high >= axis.extent - 0.5 - slack)
        if sample is not None and bool(whole.any()):
            low, high, none, whole, of = torch.broadcast_tensors(low, high, none, whole, sample)  # type: ignore[no-untyped-call]
            whole = whole & ~torch.isin(of, of[~none & ~whole])
        none = none | whole
    cells = torch.stack([(low + high) / 2, high - low], -1).reshape(-1, 2)
    cells = torch.where(none.reshape(-1, 1), 0, cells)
    cells, numbers = distinct_cells(cells)
    return compacted(torch.where(none, 0, numbers.reshape(low.shape) + 1), cells, by_sample)


def on_common_cells(coordinates: Sequence[Coordinates]) -> tuple[Tensor, list[Tensor]]:
    """All cells, and for each of the coordinates the numbers of its elements' cells among them."""
    if len(coordinates) == 1:
        return coordinates[0].cells, [coordinates[0].index]
    every = torch.cat([coords.cells for coords in coordinates])
    cells, numbers = distinct_cells(every)
    split = torch.split(numbers + 1, [len(coords.cells) for coords in coordinates])
    return cells, [c.of_elements(own, 0) for c, own in zip(coordinates, split, strict=True)]


@torch.no_grad()
def on_cells_of(coords: Coordinates, others: Sequence[Coordinates]) -> Coordinates:
    """The same coordinates with the cells of ``others``, if these include those of ``coords``."""
    if len(others) != 1 or others[0].by_sample != coords.by_sample:
        return coords
    cells, (_, index) = on_common_cells([others[0], coords])
    return coords if len(cells) > len(others[0].cells) else interned(index, cells, coords.by_sample)


def whole_axis(shape: Sequence[int], dim: int) -> Coordinates:
    """The coordinates ``1, 2, ...`` of a tensor whose dimension ``dim`` is a whole axis."""
    size = shape[dim]
    index = torch.arange(1, size + 1, device="cpu")
    index = index.reshape([size if d == dim else 1 for d in range(len(shape))])
    return interned(index, even_cells(size, size), by_sample=False)


def whole_cell(rank: int, axis: Axis) -> Coordinates:
    """The coordinates of a tensor whose elements all depend on the whole axis."""
    index = torch.ones([1] * rank, dtype=torch.long, device="cpu")
    return interned(index, even_cells(axis.extent, 1), by_sample=False)
