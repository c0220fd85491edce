"""Every n-th element of a grid, as in ``x[:, :, ::2]``: it has a cell of one pixel, or of n.

Elements keep the cells of their pixels, so that later operations can join them with the others.
Before a convolution, their cells are widened, because each stands for n pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, adjacent_cells
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, interned


def evenly_wide(cells: Tensor, axis: Axis) -> Tensor:
    """Widens every n-th cell of a grid so that no gaps are left; other cells stay unchanged.

    Pixels 0, 2 and 4 of 6 become three cells of two pixels.

    Args:
        cells: The middle and the width of each cell, sorted.
        axis: Their axis, which is covered if at most a gap is left at an end.
    """
    middle, width = cells[:, 0], cells[:, 1]
    if len(cells) < 2 or not torch.allclose(width, width[:1]):
        return cells
    step = float(middle[1] - middle[0])
    gap = step - float(width[0])
    if gap < SLACK * step or not torch.allclose(middle.diff(), middle[1:2] - middle[:1]):
        return cells
    # Cells outside of the image are those of padding.
    inside, extent = torch.nonzero(axis.holds(middle)).flatten(), axis.extent
    if len(inside) < 2:
        return cells
    first, count = int(inside[0]), len(inside)
    start = float(middle[inside[0]] - width[0] / 2) + 0.5
    stop = extent - 0.5 - float(middle[inside[-1]] + width[0] / 2)
    slack = gap + SLACK
    if count == 2 and abs(2 * step - extent) > float(width[0]) + SLACK:
        return cells  # two elements alone do not show a step
    if start <= slack and stop <= slack:
        low, step = -0.5, extent / count
    elif count > 2:  # every n-th element of a crop
        low = start - 0.5 - (start if start <= slack else max(gap - stop, 0))
    else:
        return cells
    return adjacent_cells(low - first * step, step, len(cells))


@torch.no_grad()
def widened(coords: Coordinates, axis: Axis) -> Coordinates:
    """Widens the cells of a subsampled grid to leave no gaps: every other row stands for two."""
    if axis.input == SAMPLES or not axis.is_place or not coords.may_be_subsampled:
        return coords
    cells = evenly_wide(coords.cells, axis)
    return coords if cells is coords.cells else interned(coords.index, cells, by_sample=False)
