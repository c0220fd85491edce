"""A map on other cells of the same input: linear interpolation, or averages where it is finer."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.reduction import Grid

_known: dict[object, Tensor] = {}


def enlarged(evidence: Tensor, source: Grid, target: Grid) -> Tensor:
    """A map as it is on other cells.

    On regular grids this is linear interpolation with ``align_corners=False``, as the paper has it:
    a map reaches to the border of its outermost cells. A part of the input that no cell covers,
    such as what was cropped away, gets nothing. Where the map is the finer one, it is averaged.

    Args:
        evidence: Shape ``(..., *source.sizes)``.
        source: The cells of the map.
        target: The cells to bring it to.
    """
    rank = len(source.axes)
    for axis in range(rank):
        matrix = _matrix(source.axes[axis], target.axes[axis])
        if matrix is not None:
            dim = axis - rank
            evidence = (evidence.movedim(dim, -1) @ matrix.to(evidence)).movedim(-1, dim)
    return evidence


def on_the_whole(evidence: Tensor, grid: Grid) -> Tensor:
    """A map of a part of an input, such as a crop, on a grid over all of it. The sum is kept.

    Args:
        evidence: Shape ``(..., *grid.sizes)``.
        grid: The cells of the map.
    """
    if grid.covers_evenly:
        return evidence
    rank = len(grid.axes)
    for axis, (cells, extent) in enumerate(zip(grid.axes, grid.extents, strict=True)):
        key = (extent, cells.numpy().tobytes())
        if key not in _known:
            _known[key] = _shares_on_the_whole(cells, extent)
        dim = axis - rank
        evidence = (evidence.movedim(dim, -1) @ _known[key].to(evidence)).movedim(-1, dim)
    return evidence


def _shares_on_the_whole(cells: Tensor, extent: int) -> Tensor:
    """What share of each cell equal ones over the whole axis take."""
    size = max(round(extent / float(cells[:, 1].min())), 1)
    width = extent / size
    start = torch.arange(size, dtype=torch.float64) * width - 0.5
    low, high = cells[:, 0] - cells[:, 1] / 2, cells[:, 0] + cells[:, 1] / 2
    overlap = torch.minimum(high[:, None], start + width) - torch.maximum(low[:, None], start)
    share = torch.where(overlap < 1e-6 * width, 0, overlap)
    return share / share.sum(1, keepdim=True)


def weights(source: Grid, target: Grid) -> list[Tensor]:
    """How much a unit in each cell weighs in the sum of the enlarged map, axis by axis."""
    found = []
    for cells, others in zip(source.axes, target.axes, strict=True):
        matrix = _matrix(cells, others)
        found.append(torch.ones(len(cells)).double() if matrix is None else matrix.sum(1))
    return found


def _matrix(source: Tensor, target: Tensor) -> Tensor | None:
    """What share of each source cell's value each target cell takes; None if they are the same."""
    key = (source.numpy().tobytes(), target.numpy().tobytes())
    if key[0] == key[1]:
        return None
    if key not in _known:
        if len(_known) > 1024:
            _known.clear()
        with torch.inference_mode(False), torch.no_grad():
            _known[key] = _computed(source, target)
    return _known[key]


def _computed(source: Tensor, target: Tensor) -> Tensor:
    middle, width = source[:, 0].contiguous(), source[:, 1]
    low, high = middle - width / 2, middle + width / 2
    start, stop = target[:, 0] - target[:, 1] / 2, target[:, 0] + target[:, 1] / 2
    if float(width.mean()) < float(target[:, 1].mean()) * (1 - 1e-6):
        overlap = torch.minimum(high[:, None], stop) - torch.maximum(low[:, None], start)
        matrix = overlap.clamp_min(0) / target[:, 1]
    else:
        matrix = _hats(middle, low, high, target[:, 0])
    nothing = matrix.sum(1) <= 0
    nearest = (middle[:, None] - target[:, 0]).abs().argmin(1)
    matrix[nothing, nearest[nothing]] = 1
    return matrix


def _hats(middle: Tensor, low: Tensor, high: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation between cells side by side; constant to the border of the outermost."""
    last = len(middle) - 1
    right = torch.searchsorted(middle, points.contiguous()).clamp(max=last)
    left = (right - 1).clamp_min(0)
    right = torch.where(points < middle[0], 0, right)
    left = torch.where(points > middle[last], last, left)
    right = torch.where(points > middle[last], last, right)
    slack = 1e-6 * (high - low).min()
    joined = (low[right] - high[left] <= slack) | (left == right)
    gap = torch.where(left == right, 1, middle[right] - middle[left])
    part = torch.where(left == right, 0, (points - middle[left]) / gap)
    # Across a gap there is nothing to interpolate: each cell ends at its border.
    to_left = torch.where(joined, 1 - part, (points <= high[left] + slack).double())
    to_right = torch.where(joined, part, (points >= low[right] - slack).double())
    beside = (points < low[0] - slack) | (points > high[last] + slack)
    matrix = torch.zeros(len(middle), len(points), dtype=torch.float64)
    columns = torch.arange(len(points))
    matrix.index_put_((left, columns), torch.where(beside, 0, to_left), accumulate=True)
    matrix.index_put_((right, columns), torch.where(beside, 0, to_right), accumulate=True)
    return matrix
