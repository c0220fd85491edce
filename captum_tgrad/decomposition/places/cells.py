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
