"""Cells: intervals of an axis, each with a middle and a width."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK = 1e-6
"""Positions that differ by less are equal, in pixels or relative to a size."""


def even_cells(extent: int, count: int) -> Tensor:
    """The middles and the widths of equal cells that cover an axis, shape ``(count, 2)``."""
    return adjacent_cells(-0.5, extent / count, count)


def in_steps(positions: Tensor) -> Tensor:
    """Positions or widths in whole numbers of small steps, equal if they differ by rounding only.

    The step is irrational, so that no fraction is at the border between two numbers.
    """
    return torch.round(positions / (1e-7 * 2**0.5))


def distinct_cells(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The cells sorted by middle and width, without duplicates, and the number of each among these.

    Unlike ``torch.unique``, it is fast for many cells.
    """
    steps = in_steps(cells)
    order = steps[:, 1].argsort(stable=True)
    order = order[steps[order, 0].argsort(stable=True)]
    in_order = steps[order]
    is_new = torch.ones(len(cells), dtype=torch.bool, device="cpu")
    is_new[1:] = (in_order[1:] != in_order[:-1]).any(1)
    numbers = torch.empty_like(order)
    numbers[order] = is_new.cumsum(0) - 1
    return cells[order[is_new]], numbers


def borders_of(cells: Tensor) -> tuple[Tensor, Tensor]:
    """The lower and the upper borders of cells, from their middles and widths."""
    half = cells[:, 1] / 2
    return cells[:, 0] - half, cells[:, 0] + half


def are_nested(cells: Tensor) -> bool:
    """Whether some cells are inside of others, as those of cumulative sums."""
    low, high = borders_of(cells)
    order = (-high).argsort(stable=True)
    order = order[low[order].argsort(stable=True)]
    inside = high[order][1:] <= high[order].cummax(0).values[:-1] + SLACK
    return bool(inside.any())


def adjacent_cells(start: float, width: float, count: int) -> Tensor:
    """Adjacent cells of equal width, the first one from ``start`` on."""
    middle = start + width * (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5)
    return torch.stack([middle, torch.full_like(middle, width)], 1)
