"""Enlarges maps to other cells of the same input, or averages them over larger cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.redistribution import (
    Bags,
    matrix_of,
    overlaps,
    ready_for,
    redistributed,
    shares_in_even_cells,
    sums_of_rows,
)
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.cells import SLACK, borders_of

Matrices = Sequence[Tensor | None]
"""For each axis, the factors from old to new cells; None if the cells do not change."""
ReadyMatrices = Sequence[Tensor | Bags | None]
"""These on a device; large ones are sparse."""

_cache: BoundedCache[ReadyMatrices] = BoundedCache(
    lambda matrices: sum(
        sum(part.numel() for part in each) if isinstance(each, Bags) else each.numel()
        for each in matrices
        if each is not None
    )
)


def enlarged(evidence: Tensor, source: Grid, target: Grid) -> Tensor:
    """Interpolates a map on other cells.

    On regular grids this is linear interpolation with ``align_corners=False``, as in the paper, and
    constant up to the border of the outermost cells. Parts of the input that no cell covers, such
    as cropped borders, get zeros. A map with smaller cells than the target is averaged. The map has
    the shape ``(..., *source.sizes)``.
    """
    return redistributed(evidence, _cached(_enlarging_matrices, evidence, source, target))


def on_whole_input(evidence: Tensor, grid: Grid) -> Tensor:
    """Moves a map of a part of an input, such as a crop, to a grid over the whole input.

    The sum of the map does not change. The map has the shape ``(..., *grid.sizes)``.
    """
    if grid.covers_evenly:
        return evidence
    return redistributed(evidence, _cached(_whole_input_matrices, evidence, grid))


def weights(source: Grid, target: Grid, like: Tensor) -> Tensor:
    """For each source cell, the sum of the enlarged map of a 1 in it; shape ``source.sizes``."""
    (found,) = _cached(_sums_of_enlarged, like, source, target)
    assert isinstance(found, Tensor)
    return found


def _cached(compute: Callable[..., Matrices], like: Tensor, *grids: Grid) -> ReadyMatrices:
    """The result of ``compute`` for these grids, with the dtype and on the device of ``like``."""

    def on_device() -> ReadyMatrices:
        with torch.inference_mode(False), torch.no_grad():
            return ready_for(like, compute(*grids))

    key = (compute, like.dtype, like.device, *(grid.key for grid in grids))
    return _cache.get_or(key, on_device)


def _enlarging_matrices(source: Grid, target: Grid) -> Matrices:
    return [
        None if torch.equal(cells, others) else enlarging_matrix(cells, others)
        for cells, others in zip(source.axes, target.axes, strict=True)
    ]


def _whole_input_matrices(grid: Grid) -> Matrices:
    return [
        shares_in_even_cells(cells, extent, max(round(extent / float(cells[:, 1].min())), 1))
        for cells, extent in zip(grid.axes, grid.extents, strict=True)
    ]


def _sums_of_enlarged(source: Grid, target: Grid) -> Matrices:
    sums = [
        torch.ones(len(cells), dtype=torch.float64, device="cpu")
        if matrix is None
        else sums_of_rows(matrix)
        for cells, matrix in zip(source.axes, _enlarging_matrices(source, target), strict=True)
    ]
    return [reduce(lambda one, other: one[..., None] * other, sums)]


def enlarging_matrix(source: Tensor, target: Tensor) -> Tensor:
    """The factors from source to target cells along one axis, shape ``(source, target)``."""
    middle, points = source[:, 0].contiguous(), target[:, 0].contiguous()
    if float(source[:, 1].mean()) < float(target[:, 1].mean()) * (1 - SLACK):
        rows, columns, length = overlaps(source, target)
        factors = length / target[columns, 1]
    else:
        rows, columns, factors = _interpolation(middle, *borders_of(source), points)
    nothing = (rows.bincount(factors, len(source)) <= 0).nonzero().flatten()
    right = torch.searchsorted(points, middle[nothing]).clamp(max=len(points) - 1)
    left = (right - 1).clamp_min(0)
    is_left = middle[nothing] - points[left] <= points[right] - middle[nothing]
    nearest = torch.searchsorted(points, points[left.where(is_left, right)])
    rows, columns = torch.cat([rows, nothing]), torch.cat([columns, nearest])
    factors = torch.cat([factors, torch.ones_like(middle[nothing])])
    return matrix_of(rows, columns, factors, (len(source), len(target)))


def _interpolation(
    middle: Tensor, low: Tensor, high: Tensor, points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Linear interpolation between adjacent cells, constant up to the outermost borders.

    Returns:
        The numbers of cells and of points, and the factors from the former to the latter.
    """
    last = len(middle) - 1
    right = torch.searchsorted(middle, points).clamp(max=last)
    left = (right - 1).clamp_min(0)
    left = torch.where(points > middle[last], last, left)
    slack = SLACK * (high - low).min()
    joined = (low[right] - high[left] <= slack) | (left == right)
    gap = torch.where(left == right, 1, middle[right] - middle[left])
    part = torch.where(left == right, 0, (points - middle[left]) / gap)
    # Do not interpolate across a gap: each cell ends at its border.
    to_left = torch.where(joined, 1 - part, (points <= high[left] + slack).double())
    to_right = torch.where(joined, part, (points >= low[right] - slack).double())
    beside = (points < low[0] - slack) | (points > high[last] + slack)
    factors = torch.cat([to_left, to_right]).masked_fill(beside.repeat(2), 0)
    columns = torch.arange(len(points), device="cpu").repeat(2)
    return torch.cat([left, right]), columns, factors
