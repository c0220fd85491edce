"""The coordinates of a new grid, as a convolution, a pooling or a resizing computes it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    from_borders,
    narrowed,
    widened,
)
from captum_tgrad.decomposition.places.mixed_elements import mixed

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The window of a new cell, which holds the old cells it is computed from, in one dimension.

    Args:
        offset: The middle of the first window, in cells of the old grid.
        stride: The distance between the middles of adjacent windows.
        reach: The distance from the middle of a window to its last cell.
    """

    offset: float
    stride: float
    reach: float = 0.0


@torch.no_grad()
def regridded(
    claim: Coordinates, dim: int, size: int, window: Window | None, axis: Axis
) -> Coordinates | None:
    """The coordinates after ``size`` new cells along ``dim`` replaced the old ones.

    The paper enlarges maps without regard to strides and padding. Accordingly, the new cells whose
    middle is on the old grid cover it evenly.

    Args:
        claim: The coordinates on the old grid.
        dim: The dimension of the grid.
        size: The number of new cells along it.
        window: The window of each new cell; None if the new cells cover the old ones evenly.
        axis: The axis that the coordinates are on.
    """
    if dim not in claim.dims:
        return claim
    old = claim.index.shape[dim]
    if size == old and (window is None or (window.offset, window.stride) == (0, 1)):
        return narrowed(claim, axis)
    if axis.input == SAMPLES:
        return None
    claim = widened(claim, axis)
    if size == 1 and window is None:
        hulls = mixed(claim, [dim], axis)
        return hulls[0] if len(hulls) == 1 else None
    claim = narrowed(claim, axis) or claim
    lines = claim.index.movedim(dim, -1)
    unique, number = lines.reshape(-1, old).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    middles = np.concatenate([[np.nan], claim.cells[:, 0].numpy()])
    middles[1:][claim.cells[:, 2].numpy() > 0] = np.nan  # padding is outside the image
    halves = np.concatenate([[np.nan], claim.cells[:, 1].numpy() / 2])
    lows, highs = [], []
    for line in unique.numpy():
        low, high = _new_line(middles[line], halves[line], size, window, axis)
        lows.append(low)
        highs.append(high)
    shape = [*lines.shape[:-1], size]
    first, last = (
        torch.from_numpy(np.stack(borders))[number].reshape(shape).movedim(-1, dim)
        for borders in (lows, highs)
    )
    return from_borders(first, last, axis, by_sample=claim.by_sample)


def _new_line(
    middle: FloatArray, half: FloatArray, size: int, window: Window | None, axis: Axis
) -> tuple[FloatArray, FloatArray]:
    """The borders of the new cells along one line of old cells; inf and -inf for no cell."""
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    inside = (middle > -0.5 - 1e-6) & (middle < axis.extent - 0.5 + 1e-6)
    if not inside.any():
        return low, high
    old = len(middle)
    evenly = old / size
    stride = evenly if window is None else window.stride
    first = (evenly - 1) / 2 if window is None else window.offset
    centers = first + stride * np.arange(size)
    runs = runs_of(middle, half, inside)
    if window is not None and len(runs) > 1:
        runs = _without_repeated_ends(runs, middle, window.reach)
    if len(runs) == 1:
        start, stop = runs[0]
        before = max(math.ceil((start - 0.5 - first) / stride - 1e-9), 0)
        after = max(size - 1 - math.floor((stop - 0.5 - first) / stride + 1e-9), 0)
        count = size - before - after
        if count <= 0:
            return low, high
        cells = borders_along(middle, half, start, stop)
        margins = centers[before] - start, stop - 1 - centers[before + count - 1]
        first_end, last_end = 0.0, 1.0
        is_shifted = stride == 1 and count < stop - start and abs(margins[0] - margins[1]) > 1e-9
        if stride > 1 and window is not None:
            is_shifted = abs(centers[0] - start - (stop - 1 - centers[-1])) > stride + 1e-9
        if is_shifted:
            # As in a causal convolution: each cell is where its window is.
            beyond = (stride - 1) / 2  # what a cell has beyond a pixel, on both sides
            first_end = (margins[0] - beyond) / (stop - start)
            last_end = 1 - (margins[1] - beyond) / (stop - start)
        borders = np.interp(
            np.linspace(first_end, last_end, count + 1), np.linspace(0, 1, stop - start + 1), cells
        )
        low[before : before + count] = np.minimum(borders[:-1], borders[1:])
        high[before : before + count] = np.maximum(borders[:-1], borders[1:])
        if window is not None:
            beside = np.r_[:before, before + count : size]
            ends = centers[beside][:, None] + np.array([-0.5, 0.5]) * (2 * window.reach + 1)
            ends = ends.clip(start - 0.5, stop - 0.5)
            sees = ends[:, 1] - ends[:, 0] > 1e-9  # padding, and a part of the image
            ends = np.interp(ends, np.arange(start, stop + 1) - 0.5, cells)
            low[beside[sees]], high[beside[sees]] = ends.min(1)[sees], ends.max(1)[sees]
        return low, high
    if window is None or abs(stride - evenly) < 1e-9:
        centers = (evenly - 1) / 2 + evenly * np.arange(size)
    for start, stop in runs:
        own = (centers >= start - 0.5 - 1e-9) & (centers < stop - 0.5 - 1e-9)
        ends = centers[own][:, None] + np.array([-stride / 2, stride / 2])
        ends = np.interp(
            ends, np.arange(start, stop + 1) - 0.5, borders_along(middle, half, start, stop)
        )
        low[own], high[own] = ends.min(1), ends.max(1)
    return low, high


def runs_of(
    middle: FloatArray, half: FloatArray, inside: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """The half-open ranges of adjacent old cells that run in one direction."""
    runs: list[tuple[int, int]] = []
    direction = 0
    for i in np.flatnonzero(inside):
        step = 0
        if runs and runs[-1][1] == i:
            between = middle[i] - middle[i - 1]
            touch = abs(abs(between) - half[i] - half[i - 1]) < 1e-6 * half[i]
            step = int(np.sign(between)) if touch else 0
        if step and direction in (0, step):
            runs[-1] = (runs[-1][0], int(i) + 1)
            direction = step
        else:
            runs.append((int(i), int(i) + 1))
            direction = 0
    return runs


def _without_repeated_ends(
    runs: list[tuple[int, int]], middle: FloatArray, reach: float
) -> list[tuple[int, int]]:
    """The runs without those that a padding by reflection or from the other side repeats."""
    start, stop = max(runs, key=lambda run: run[1] - run[0])
    if stop - start < 2:
        return runs
    while start and abs(middle[start - 1] - 2 * middle[start] + middle[start + 1]) < 1e-6:
        start -= 1  # a reflection turns around at an element of the image
    low, high = sorted(middle[[start, stop - 1]])
    ends = np.r_[middle[:start], middle[stop:]]
    is_repeated = (ends >= low) & (ends <= high) | np.isnan(ends)
    if max(start, len(middle) - stop) > reach or not is_repeated.all():
        return runs
    return [(start, stop)]


def borders_along(middle: FloatArray, half: FloatArray, start: int, stop: int) -> FloatArray:
    """The borders of the cells of a run, in its direction."""
    own, width = middle[start:stop], half[start:stop]
    sign = -1 if stop - start > 1 and own[1] < own[0] else 1
    borders: FloatArray = np.concatenate([own - sign * width, [own[-1] + sign * width[-1]]])
    return borders


@torch.no_grad()
def refined(claim: Coordinates, axis: Axis) -> Coordinates | None:
    """An element that was repeated in place is a finer grid: each copy has its part of the cell.

    Args:
        claim: Coordinates along one dimension.
        axis: The axis that they are on.
    """
    if axis.input == SAMPLES:
        return claim
    index = claim.index.flatten()
    _, counts = index.unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
    times = int(counts[0])
    if times < 2 or len(counts) < 2 or not bool((counts == times).all() & (index > 0).all()):
        return claim
    cells = widened(claim, axis).cells
    middles, widths = cells[:, 0][index - 1], cells[:, 1][index - 1]
    sign = -1.0 if float(middles[-1]) < float(middles[0]) else 1.0
    part = torch.arange(len(index), device="cpu") % times
    center = middles + sign * widths * ((part + 0.5) / times - 0.5)
    half = widths / times / 2
    shape = claim.index.shape
    return from_borders((center - half).reshape(shape), (center + half).reshape(shape), axis)
