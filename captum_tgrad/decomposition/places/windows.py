"""Overlapping windows, as of a convolution: replaces them by adjacent cells."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, adjacent_cells, borders_of
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates, compacted


def narrowed(coords: Coordinates, axis: Axis) -> Coordinates:
    """Replaces windows with a constant step, as after a convolution, by adjacent cells.

    The cells have equal widths and together cover the same range as the windows. If the outer
    windows reach far into padding, each cell is at the middle of its window, cut to the image. If
    the middle is outside of the image, the cell is the part of the window on the image. Windows
    that are wide compared with the range of their middles stay unchanged.
    """
    if len(coords.cells) < 2 or coords.by_sample:
        return coords
    windows, (first, last) = _uncut(coords.cells, axis)
    extent = last - first
    # Restoring cut windows may change their order, as after a dilated convolution.
    order = windows[:, 0].argsort()
    windows, number = windows[order], order.argsort()
    middle, width = windows[:, 0], windows[:, 1]
    steps = middle.diff()
    step = steps.min()
    is_even = all(bool(((each - each[0]).abs() < SLACK).all()) for each in (width, steps))
    covered, spanned = step * len(middle), middle[-1] - middle[0] + width[0]
    # Adjacent windows that cover more than the image are windows of a padded image.
    overlap = step < width[0] - SLACK or (step < width[0] + SLACK and covered > extent + SLACK)
    if not is_even or not overlap or covered <= spanned / 2:
        return coords
    start, stop = float(middle[0] - width[0] / 2), float(middle[-1] + width[-1] / 2)
    before, after = float(middle[0]) - first, last - float(middle[-1])
    # As many windows as pixels are the grid of the pixels, also with an even kernel.
    is_centered = abs(before - after) < step - SLACK or abs(covered - extent) < SLACK
    reach_far = (start < first or stop > last) and not (before >= 0 and after >= 0 and is_centered)
    if reach_far:
        start, stop = float(middle[0] - step / 2), float(middle[-1] + step / 2)
        size = float(width[0] / step)
        if abs(size - 2 * round(size / 2)) < SLACK:  # the middles are between cells: an even kernel
            half = math.copysign(float(step) / 2, after - before)
            start, stop = start + half, stop + half
    else:  # a margin too small for one more window is divided among the cells
        start = first if start - first < step - SLACK else start
        stop = last if last - stop < step - SLACK else stop
    cells = adjacent_cells(start, (stop - start) / len(middle), len(middle))
    return compacted(coords.index, _on_image(cells, windows, axis)[number]) or coords


def _on_image(cells: Tensor, windows: Tensor, axis: Axis) -> Tensor:
    """Cuts cells to the image; cells outside of it become the part of their window on the image."""
    found = cells.clone()
    shown = torch.where(axis.holds(cells[:, :1]), cells, windows)
    low, high = borders_of(shown)
    low, high = low.clamp_min(-0.5), high.clamp_max(axis.extent - 0.5)
    is_cut = (high - low > SLACK) & (high - low < shown[:, 1] - SLACK)
    found[is_cut, 0], found[is_cut, 1] = ((low + high) / 2)[is_cut], (high - low)[is_cut]
    return found


def _uncut(cells: Tensor, axis: Axis) -> tuple[Tensor, tuple[float, float]]:
    """Restores the full width of windows that the ends of the image, or of a crop, cut off.

    If shifted copies of an image, filled up with zeros, are added, sums at the ends are cut off.

    Returns:
        The windows, and the ends of the image or of the crop.
    """
    whole = -0.5, axis.extent - 0.5
    width = cells[:, 1].max()
    is_cut = cells[:, 1] < width - SLACK
    if not 0 < int(is_cut.sum()) <= len(cells) / 2:
        return cells, whole
    low, high = borders_of(cells)
    first, last = float(low.min()), float(high.max())
    at_start = low + high < first + last
    reaches_beyond = torch.where(at_start, high - width < first, low + width > last)
    if not bool(reaches_beyond[is_cut].all()):
        return cells, whole
    starts_inside = bool(at_start[is_cut].any()) and first > whole[0] + SLACK
    stops_inside = bool((~at_start)[is_cut].any()) and last < whole[1] - SLACK
    ends = (first, last) if starts_inside or stops_inside else whole
    middle = torch.where(at_start, high - width / 2, low + width / 2).where(is_cut, cells[:, 0])
    # If padding by reflection shows more of the image than a window whose middle is outside, the
    # middle is mirrored.
    step = middle.diff().median()
    for end, beside, edge in ((0, 1, 0), (-1, -2, axis.extent - 1)):
        distance = abs(middle[end] - middle[beside])
        mirrored = 2 * edge - middle[end]
        if distance < step - SLACK and abs(abs(mirrored - middle[beside]) - step) < SLACK:
            middle[end] = mirrored
    return torch.stack([middle, width.expand_as(middle)], 1), ends
