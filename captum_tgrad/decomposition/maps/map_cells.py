"""The cells of a map, which do not overlap, from those of a tensor's elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.maps.enlarging import enlarging_matrix
from captum_tgrad.decomposition.maps.redistribution import (
    matrix_of,
    overlaps,
    redistributed,
    shares_in_even_cells,
)
from captum_tgrad.decomposition.places.cells import (
    SLACK,
    are_nested,
    borders_of,
    distinct_cells,
    even_cells,
)
from captum_tgrad.decomposition.places.coordinates import Axis

_MOST_SHARES = 2**24  # samples * cells * pixels; with more, cells are not interpolated
_MOST_PARTS = 2**22  # nested cells * their parts

OnMap = tuple[Tensor, Tensor | None]
"""The map's cells on an axis, and the share of each element cell they get; None if equal."""


def cells_of_map(
    cells: Sequence[Tensor], axes: Sequence[Axis], has: Sequence[Tensor] | None
) -> tuple[list[OnMap], tuple[float, ...] | None]:
    """The cells of a map along each axis.

    Args:
        cells: The cells of the elements along each axis.
        axes: The axes.
        has: For each axis, whether each sample has elements in each cell, ``(samples, cells)``;
            None if all samples have the same cells.

    Returns:
        The cells, and the ``sides`` of the :class:`Grid`.
    """
    if has is None or all(bool(each.all()) for each in has):
        return [_without_overlap(each) for each in cells], None
    on_map = [_pixels(*each) for each in zip(cells, has, axes, strict=True)]
    counts = torch.stack([own.sum(1) for own in has]).prod(0)
    if bool((counts <= 1).all()):
        return on_map, tuple([axis.extent for axis in axes])
    return on_map, tuple([float(each[:, 1].min()) for each in cells])


def _without_overlap(cells: Tensor) -> OnMap:
    """Cells without overlap, and the share of each given cell that they get; None if equal."""
    low, high = borders_of(cells)
    if len(cells) < 2 or bool((high[:-1] <= low[1:] + SLACK * cells[1:, 1]).all()):
        return cells, None
    width = cells[:, 1]
    finest = width.min()
    if bool((width < finest * (1 + SLACK)).all()):
        between = (cells[1:, 0] + cells[:-1, 0]) / 2
        low = torch.cat([low[:1], torch.maximum(low[1:], between)])
        high = torch.cat([torch.minimum(high[:-1], between), high[-1:]])
        return torch.stack([(low + high) / 2, high - low], 1), None
    # A fine and a coarse grid: a coarse cell that fine cells cover is divided among them.
    fine = width < finest * (1 + SLACK)
    rows, others, length = overlaps(cells, cells[fine])
    total = rows.bincount(length, len(cells))
    covered = (total > 0.99 * width) & ~fine
    kept = ~covered
    column = kept.cumsum(0) - 1
    is_part, same = covered[rows], kept.nonzero().flatten()
    rows, others, length = rows[is_part], others[is_part], length[is_part]
    matrix = matrix_of(
        torch.cat([same, rows]),
        column[torch.cat([same, fine.nonzero().flatten()[others]])],
        torch.cat([torch.ones_like(width[same]), length / total[rows]]),
        (len(cells), len(same)),
    )
    if not are_nested(cells[covered.logical_or(fine).logical_not()]):
        return cells[kept], matrix
    parts, shares = _parts_of(cells[kept])
    return parts, matrix @ shares.to_dense()


def _parts_of(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of cells between all borders, and the share of each cell that they get.

    Interpolation between the middles of nested cells would leave out the ends of the wide ones.
    """
    low, high = borders_of(cells)
    borders = torch.cat([low, high]).sort().values
    borders = borders[F.pad(borders.diff() > SLACK, (1, 0), value=True)]
    if len(cells) * len(borders) > _MOST_PARTS:
        count = _MOST_PARTS // len(cells)
        borders = torch.linspace(float(low.min()), float(high.max()), count + 1).double()
    parts = torch.stack([(borders[1:] + borders[:-1]) / 2, borders.diff()], 1)
    rows, columns, length = overlaps(cells, parts)
    used, number = columns.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    share = length / rows.bincount(length, len(cells))[rows]
    return parts[used], matrix_of(rows, number, share, (len(cells), len(used)))


def _pixels(cells: Tensor, has: Tensor, axis: Axis) -> OnMap:
    """The pixels of an axis, and the share of each cell in them, as if each sample were alone.

    ``has[sample, cell]`` is whether the sample has elements in the cell.
    """
    pixels = even_cells(axis.extent, axis.extent)
    are_pixels = len(distinct_cells(torch.cat([pixels, cells]))[0]) == len(pixels)
    if are_pixels or has.numel() * axis.extent > _MOST_SHARES:
        return pixels, shares_in_even_cells(cells, axis.extent, axis.extent)
    shares = torch.zeros(*has.shape, axis.extent, dtype=torch.float64, device="cpu")
    for own, share in zip(has, shares, strict=True):
        if bool(own.any()):
            finest, matrix = _without_overlap(cells[own])
            enlarged = enlarging_matrix(finest, pixels).to_dense()
            share[own] = enlarged if matrix is None else matrix @ enlarged
    return pixels, shares / shares.sum(-1, keepdim=True).clamp_min(1e-30)


def shares_of_samples(has: Sequence[Tensor], spread: Sequence[Tensor | None]) -> Tensor:
    """Divides 1 equally among the cells of each sample, or all cells if the sample has none.

    As in the map of a sample alone, these are all cells in the rows and columns of its elements.
    The arguments are ``has`` of :func:`cells_of_map` and ``spread`` of :class:`Reduction`.
    """
    rank = len(has) + 2
    shares = torch.ones([1] * rank, dtype=torch.float64, device="cpu")
    for dim, own in enumerate(has, 2):
        shares = shares * own.reshape([len(own), *(-1 if d == dim else 1 for d in range(1, rank))])
    shares = redistributed(shares, spread)
    total = shares.flatten(1).sum(1).reshape(-1, *[1] * (rank - 1))
    return torch.where(total > 0, shares / total, 1 / shares[0].numel())
