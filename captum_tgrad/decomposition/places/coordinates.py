"""Coordinates: the positions of a tensor's elements along one axis of an input.

Operations that move the elements of a tensor also move their coordinates, which are plain integer
tensors. They have size 1 in every dimension on which they do not depend: the row coordinates of an
image have shape ``(1, 1, H, 1)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor

SAMPLES = -1
LOST = -2


class Axis(NamedTuple):
    """The axis that coordinates are on.

    Args:
        input: The number of the input; ``SAMPLES`` for the samples of the batch; ``LOST`` for
            positions in the output of an operation that lost the places.
        dim: The dimension of that input.
        extent: The number of elements along it.
        is_place: Whether it is a place rather than a channel.
        lost_at: For ``LOST``, the operation that lost the places.
    """

    input: int
    dim: int
    extent: int
    is_place: bool = True
    lost_at: str = ""


class Coordinates:
    """The cell of each element of a tensor, along one axis.

    Args:
        index: The number of each element's cell, from 1; 0 if it has none. It has the shape of the
            tensor, with size 1 in the dimensions on which it does not depend.
        cells: The middle and the width of each cell in pixels of the input, and 1 where it is
            padding, else 0: shape ``(cells, 3)``, sorted. Pixel ``i`` reaches from ``i - 0.5`` to
            ``i + 0.5``.
    """

    __slots__ = ("__weakref__", "cells", "dims", "index")

    def __init__(self, index: Tensor, cells: Tensor) -> None:
        self.index = index
        self.cells = cells
        self.dims = tuple(dim for dim, size in enumerate(index.shape) if size != 1)

    @property
    def has_everywhere(self) -> bool:
        """Whether each element has a cell."""
        return bool((self.index > 0).all())

    def borders(self) -> tuple[Tensor, Tensor]:
        """The borders of each element's cell; inf and -inf if it has none."""
        middle, half = self.cells[:, 0], self.cells[:, 1] / 2
        infinite = torch.full((1,), torch.inf, dtype=torch.float64, device="cpu")
        low = torch.cat([infinite, middle - half])
        high = torch.cat([-infinite, middle + half])
        return low[self.index], high[self.index]

    def padding(self) -> Tensor:
        """Whether each element is padding or has no cell."""
        flags = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), self.cells[:, 2]])
        return flags[self.index] > 0

    def aligned(self, rank: int) -> Coordinates:
        """The same for a tensor with further dimensions in front, as broadcasting adds them."""
        missing = rank - self.index.dim()
        if missing == 0:
            return self
        return _shared(self.index.reshape([1] * missing + list(self.index.shape)), self.cells)


_all: WeakValueDictionary[object, Coordinates] = WeakValueDictionary()


def _shared(index: Tensor, cells: Tensor) -> Coordinates:
    """Returns one object for equal coordinates, which is a key of caches."""
    key = (tuple(index.shape), index.numpy().tobytes(), cells.numpy().tobytes())
    known = _all.get(key)
    if known is None:
        known = _all[key] = Coordinates(index, cells)
    return known


@torch.no_grad()
def coordinates(index: Tensor, cells: Tensor) -> Coordinates | None:
    """Coordinates in their smallest form; None if no element has a cell.

    Args:
        index: As for :class:`Coordinates`, broadcastable to the shape of the tensor.
        cells: As for :class:`Coordinates`, in any order; some may be equal.
    """
    if index.numel() == 0:
        return None
    index = _without_constant_dims(index.long())
    used, place = index.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    used = used[used > 0]
    if len(used) == 0:
        return None
    offset = 0 if int(index.min()) == 0 else 1
    kept = torch.round(cells[used - 1], decimals=10)
    cells, order = kept.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    number = torch.cat([torch.zeros(1 - offset, dtype=torch.long, device="cpu"), order + 1])
    return _shared(number[place].contiguous(), cells.contiguous())


def _without_constant_dims(index: Tensor) -> Tensor:
    """Reduces dimensions to size 1 if all elements with a cell along them have the same cell."""
    for dim in range(index.dim()):
        if index.shape[dim] != 1 and index.stride(dim) == 0:
            index = index.narrow(dim, 0, 1)
    for dim in range(index.dim()):
        if index.shape[dim] != 1:
            largest = index.amax(dim, keepdim=True)
            if bool(((index == largest) | (index == 0)).all()):
                index = largest
    return index


def from_borders(
    low: Tensor, high: Tensor, axis: Axis, padding: Tensor | None = None
) -> Coordinates | None:
    """Coordinates of cells from ``low`` to ``high``; no cell if ``high < low``.

    A cell that covers the whole axis counts as no cell, and so does a cell that covers several
    samples.

    Args:
        low: The lower border of each element's cell.
        high: The upper border.
        axis: The axis that the coordinates are on.
        padding: Whether each element is padding.
    """
    if axis.input == SAMPLES:
        none = high - low > 1.5
    else:
        slack = 1e-6 * axis.extent
        none = (low <= slack - 0.5) & (high >= axis.extent - 0.5 - slack)
    none |= high < low
    flag = torch.zeros_like(low) if padding is None else padding.to(low)
    cells = torch.stack([(low + high) / 2, high - low, flag], -1).reshape(-1, 3)
    cells = torch.where(none.reshape(-1, 1), 0, cells)
    cells, index = torch.round(cells, decimals=10).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    return coordinates(torch.where(none, 0, index.reshape(low.shape) + 1), cells)


def narrowed(claim: Coordinates | None) -> Coordinates | None:
    """Sets the width of overlapping windows with a constant step to that step."""
    if claim is None or len(claim.cells) < 2:
        return claim
    middle, width = claim.cells[:, 0], claim.cells[:, 1]
    steps = middle.diff()
    step = steps.min()
    if bool((width == width[0]).all()) and bool((steps == step).all()) and step < width[0] - 1e-6:
        cells = claim.cells.clone()
        cells[:, 1] = step
        return _shared(claim.index, cells)
    return claim


def along(shape: Sequence[int], dim: int, extent: int | None = None) -> Coordinates:
    """The coordinates of a tensor whose dimension ``dim`` is the whole axis, in order."""
    size = shape[dim] if extent is None else extent
    index = torch.arange(1, size + 1, device="cpu").reshape(
        [size if d == dim else 1 for d in range(len(shape))]
    )
    pixels = torch.arange(size, dtype=torch.float64, device="cpu")
    cells = torch.stack([pixels, torch.ones_like(pixels), torch.zeros_like(pixels)], 1)
    return _shared(index, cells.contiguous())
