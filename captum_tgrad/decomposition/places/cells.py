"""The cells of a map, and the redistribution of evidence among cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

SLACK = 1e-6
"""Positions that differ by less are equal, in pixels or relative to a size."""


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """The cells of a map, in pixels of its input.

    Args:
        axes: For each spatial axis of the input the middle and the width of the cells, sorted:
            shape ``(cells, 2)``, float64. Pixel ``i`` reaches from ``i - 0.5`` to ``i + 0.5``.
        extents: The number of pixels of the input along each axis.
        sides: The resolution of the term if the samples have different cells, so that the map is in
            pixels: the smallest side of a cell on each axis, or ``extents`` if no sample has more
            than one cell.
    """

    axes: tuple[Tensor, ...]
    extents: tuple[int, ...]
    sides: tuple[float, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        names = ("axes", "extents", "sides")  # without the cached properties
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        cells, pixels = (" x ".join(map(str, each)) for each in (self.sizes, self.extents))
        return f"Grid({cells} cells on {pixels} pixels)"

    @property
    def sizes(self) -> list[int]:
        """The number of cells along each axis."""
        return [len(cells) for cells in self.axes]

    @property
    def has_one_cell(self) -> bool:
        """Whether no sample has more than one cell."""
        return math.prod(self.sizes) == 1 or self.sides == self.extents

    @property
    def finest_sides(self) -> Sequence[float]:
        """The sides of the smallest cell, in pixels."""
        return self.sides or [float(cells[:, 1].min()) for cells in self.axes]

    @cached_property
    def covers_evenly(self) -> bool:
        """Whether cells of equal width cover the whole input."""
        for cells, extent in zip(self.axes, self.extents, strict=True):
            even = even_cells(extent, len(cells))
            if not torch.allclose(cells[:, 0], even[:, 0], atol=SLACK * float(even[0, 1])):
                return False
        return True

    @cached_property
    def key(self) -> object:
        """A key that is equal for equal grids."""
        return (self.sides, self.extents, *[cells.numpy().tobytes() for cells in self.axes])


def even_cells(extent: int, count: int) -> Tensor:
    """The middles and the widths of equal cells that cover an axis, shape ``(count, 2)``."""
    return adjacent_cells(-0.5, extent / count, count)


def are_all_pixels(cells: Tensor, extent: int) -> bool:
    """Whether these are the pixels of a whole axis."""
    return len(cells) == extent and torch.equal(cells, even_cells(extent, extent))


def shares_in_even_cells(cells: Tensor, extent: int, count: int) -> Tensor:
    """The share of each cell that each of ``count`` equal cells over the axis gets."""
    rows, columns, length = overlaps(cells, even_cells(extent, count))
    counts = length >= SLACK * extent / count
    rows, columns, length = rows[counts], columns[counts], length[counts]
    share = length / rows.bincount(length, len(cells))[rows]
    return matrix_of(rows, columns, share, (len(cells), count))


def distinct_cells(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The cells sorted by middle and width, without duplicates, and the number of each among these.

    Unlike ``torch.unique``, it is fast for many cells.
    """
    order = cells[:, 1].argsort(stable=True)
    order = order[cells[order, 0].argsort(stable=True)]
    in_order = cells[order]
    is_new = torch.ones(len(cells), dtype=torch.bool, device="cpu")
    is_new[1:] = (in_order[1:] != in_order[:-1]).any(1)
    numbers = torch.empty_like(order)
    numbers[order] = is_new.cumsum(0) - 1
    return in_order[is_new], numbers


def borders_of(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper borders of cells, from their middles and widths."""
    half = cells[:, 1] / 2
    return cells[:, 0] - half, cells[:, 0] + half


def overlaps(cells: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of overlapping cells and others, and the lengths of their overlaps."""
    low, high = borders_of(cells)
    start, stop = borders_of(others)
    # The borders need not be sorted: a narrow cell may be inside of a wide one.
    first = torch.searchsorted(stop.cummax(0).values, low, right=True)
    last = torch.searchsorted(start.flip(0).cummin(0).values.flip(0), high)
    count = (last - first).clamp_min(0)
    rows = torch.arange(len(cells), device="cpu").repeat_interleave(count)
    before = (count.cumsum(0) - count - first).repeat_interleave(count)
    columns = torch.arange(len(rows), device="cpu") - before
    length = torch.minimum(high[rows], stop[columns]) - torch.maximum(low[rows], start[columns])
    positive = length > 0
    return rows[positive], columns[positive], length[positive]


def matrix_of(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix with the sums of these values, and 0 elsewhere; it is sparse if it is large."""
    if math.prod(shape) > _MOST_IN_DENSE:
        positions = torch.stack([rows, columns])
        return torch.sparse_coo_tensor(positions, values, shape, check_invariants=False).coalesce()
    matrix = torch.zeros(shape, dtype=torch.float64, device="cpu")
    return matrix.index_put_((rows, columns), values, accumulate=True)


_MOST_IN_DENSE = 2**20


def as_like(matrix: Tensor, like: Tensor) -> Tensor:
    """A matrix with the dtype and on the device of a tensor; MPS has no sparse matrices."""
    return (matrix.to_dense() if like.device.type == "mps" else matrix).to(like)


def redistributed(evidence: Tensor, shares: Sequence[Tensor | None]) -> Tensor:
    """Moves evidence from one set of cells to another.

    Args:
        evidence: Shape ``(..., N, 1, *cells)``.
        shares: For each of the last dimensions, the share of each cell that each new cell gets:
            shape ``(cells, new cells)``, also sparse, or ``(N, cells, new cells)`` with one matrix
            per sample; None if the cells do not change. Converted to the dtype and device of
            ``evidence``.
    """
    for dim, matrix in enumerate(shares, -len(shares)):
        if matrix is None:
            continue
        matrix = as_like(matrix, evidence)
        if matrix.is_sparse:
            lines = evidence.movedim(dim, 0)
            new = matrix.t() @ lines.flatten(1)
            evidence = new.reshape(-1, *lines.shape[1:]).movedim(0, dim)
        elif matrix.dim() == 3:
            lines = evidence.movedim(dim, -1)
            new = lines.flatten(-1 - len(shares), -2) @ matrix
            evidence = new.reshape(*lines.shape[:-1], -1).movedim(-1, dim)
        elif dim == -1:
            evidence = evidence @ matrix
        else:
            rest = evidence.shape[dim + 1 :]
            mixed = matrix.T @ evidence.flatten(dim + 1)
            evidence = mixed.reshape(*mixed.shape[:-1], *rest)
    return evidence


def adjacent_cells(start: float, width: float, count: int) -> Tensor:
    """Adjacent cells of equal width, the first one from ``start`` on."""
    middle = start + width * (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5)
    return torch.stack([middle, torch.full_like(middle, width)], 1)


def evenly_wide(cells: Tensor, extent: int) -> Tensor:
    """Widens every n-th cell of a grid so that no gaps are left; other cells stay unchanged.

    Pixels 0, 2 and 4 of 6 become three cells of two pixels.

    Args:
        cells: The middle and the width of each cell, sorted.
        extent: The number of pixels along the axis, all covered if at most a gap is left at an end.
    """
    middle, width = cells[:, 0], cells[:, 1]
    if len(cells) < 2 or not torch.allclose(width, width[:1]):
        return cells
    step = float(middle[1] - middle[0])
    gap = step - float(width[0])
    if gap < SLACK * step or not torch.allclose(middle.diff(), middle[1:2] - middle[:1]):
        return cells
    start = float(middle[0] - width[0] / 2) + 0.5
    stop = extent - 0.5 - float(middle[-1] + width[-1] / 2)
    slack = gap + SLACK
    if len(cells) == 2 and abs(2 * step - extent) > float(width[0]) + SLACK:
        return cells  # two elements alone do not show a step
    if start <= slack and stop <= slack:
        low, step = -0.5, extent / len(cells)
    elif len(cells) > 2:  # every n-th element of a crop
        low = start - 0.5 - (start if start <= slack else max(gap - stop, 0))
    else:
        return cells
    return adjacent_cells(low, step, len(cells))
