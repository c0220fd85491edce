"""Cells: intervals of an axis, each with a middle and a width."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK = 1e-6
"""Positions that differ by less are equal, in pixels or relative to a size."""


def even_cells(extent: int, count: int) -> Tensor:
    """The middles and the widths of equal cells that cover an axis, shape ``(count, 2)``."""
    return adjacent_cells(-0.5, extent / count, count)


def are_all_pixels(cells: Tensor, extent: int) -> bool:
    """Whether these are the pixels of a whole axis."""
    return len(cells) == extent and torch.equal(cells, even_cells(extent, extent))


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


def adjacent_cells(start: float, width: float, count: int) -> Tensor:
    """Adjacent cells of equal width, the first one from ``start`` on."""
    middle = start + width * (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5)
    return torch.stack([middle, torch.full_like(middle, width)], 1)


def sorted_cells(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts cells along the last dimension.

    Returns:
        The lower borders, sorted, and the running maximum of the upper borders.
    """
    low, order = low.sort(-1)
    return low, high.gather(-1, order).cummax(-1).values


def gaps_between(low: Tensor, high: Tensor) -> Tensor:
    """The gaps between neighbors along the last dimension, of :func:`sorted_cells`."""
    return (low[..., 1:] - high[..., :-1]).nan_to_num(0, posinf=0).clamp_min(0)


def around_largest_gap(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Where the largest of :func:`gaps_between` starts and stops."""
    place = gaps_between(low, high).argmax(-1, keepdim=True)
    return high.gather(-1, place).squeeze(-1), low.gather(-1, place + 1).squeeze(-1)


def hull_of(low: Tensor, high: Tensor, extent: int) -> tuple[Tensor, Tensor]:
    """The smallest cell that holds all cells along the last dimension.

    It may cross an end of the axis: columns 14, 15 and 0 of 16 reach from 13.5 to 16.5, as a window
    after circular padding does.

    Args:
        low: The lower borders, from :func:`sorted_cells`.
        high: The upper borders, from :func:`sorted_cells`.
        extent: The number of pixels along the axis.

    Returns:
        The lower and the upper border.
    """
    start, stop = low[..., 0], high[..., -1]
    end, begin = around_largest_gap(low, high)
    begin = begin - extent
    begin, end = (torch.where(begin + end < -1, each + extent, each) for each in (begin, end))
    crosses = (stop - start >= extent - SLACK) & (end - begin < extent / 2)
    return torch.where(crosses, begin, start), torch.where(crosses, end, stop)
