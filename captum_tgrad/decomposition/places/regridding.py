"""The coordinates after a convolution, a pooling or a resizing, which compute a new grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from captum_tgrad.decomposition.places.cells import SLACK
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.gaps import filled_along
from captum_tgrad.decomposition.places.subsampling import evenly_wide, widened
from captum_tgrad.decomposition.places.sums import mixed
from captum_tgrad.decomposition.places.windows import narrowed

FloatArray = NDArray[np.float64]

Run = tuple[int, int]
"""The start and the stop of a range of elements; ``stop`` is not part of it."""


@dataclass(frozen=True)
class Window:
    """The receptive fields (windows) of new cells along one dimension, in units of old cells.

    Args:
        offset: The middle of the first window; 0 is the middle of the first old cell.
        stride: The distance between the middles of adjacent windows.
        reach: The distance from the middle of a window to the middle of its last old cell.
    """

    offset: float
    stride: float
    reach: float = 0.0

    @staticmethod
    def of_kernel(size: float, stride: float, padding: float, dilation: float) -> Window:
        """The windows of a convolution or a pooling."""
        reach = (size - 1) * dilation / 2
        return Window(reach - padding, stride, reach)

    def transposed(self) -> Window:
        """The windows of the transposed convolution."""
        return Window(-self.offset / self.stride, 1 / self.stride, self.reach / self.stride)

    def centers(self, count: int) -> FloatArray:
        """The middles of the windows."""
        return self.offset + self.stride * np.arange(count, dtype=np.float64)


class Line(NamedTuple):
    """The cells of the elements along one dimension, such as a column of an image.

    Args:
        middle: The middle of each element's cell; NaN for an element without a cell.
        half: Half the width of the cell.
    """

    middle: FloatArray
    half: FloatArray

    @staticmethod
    def of_cells(coords: Coordinates) -> Line:
        """The cells of coordinates, by their number from 1. Number 0 stands for no cell."""
        middle, width = coords.cells.numpy().T
        return Line(np.concatenate([[np.nan], middle]), np.concatenate([[np.nan], width / 2]))

    def take(self, numbers: NDArray[np.int64]) -> Line:
        """The cells with the given numbers."""
        return Line(self.middle[numbers], self.half[numbers])

    def widened(self, axis: Axis) -> Line:
        """Widens the cells of a subsampled grid; see :func:`evenly_wide`."""
        at = np.flatnonzero(~np.isnan(self.middle))
        if len(at) < 2 or at[-1] - at[0] >= len(at):
            return self
        at = at[self.middle[at].argsort()]
        cells = torch.from_numpy(np.stack([self.middle[at], 2 * self.half[at]], 1))
        cells = evenly_wide(cells, axis)
        middle, half = self.middle.copy(), self.half.copy()
        middle[at], half[at] = cells[:, 0], cells[:, 1] / 2
        return Line(middle, half)

    def runs(self, axis: Axis) -> list[Run]:
        """The ranges of adjacent cells on the axis, each in ascending or in descending order."""
        middle, half = self
        at = np.flatnonzero(axis.holds(middle))
        if not len(at):
            return []
        distances, widths = np.diff(middle[at]), half[at[1:]]
        touch = np.abs(np.abs(distances) - widths - half[at[:-1]]) < SLACK * widths
        steps = np.sign(distances) * (touch & (np.diff(at) == 1))
        runs: list[Run] = []
        first = last = 0
        changes = np.flatnonzero(np.diff(steps, prepend=np.nan, append=np.nan)).tolist()
        for start, stop in pairwise(changes):
            if not steps[start]:
                runs += [(first, start), *((each, each) for each in range(start + 1, stop))]
                first = stop
            elif first < last:  # the direction changes
                runs.append((first, start))
                first = start + 1
            last = stop
        runs = [(at[start].item(), at[stop].item() + 1) for start, stop in [*runs, (first, last)]]
        for number in range(1, len(runs)):  # the turning point of a reflection, in both runs
            (first, between), (start, stop) = runs[number - 1 : number + 1]
            if between == start and stop - start > between - first and stop - start > 1:
                steps = np.diff(middle[start - 1 : start + 2])
                turns = int(abs(steps[0] - steps[1]) < SLACK)
                runs[number - 1 : number + 1] = (first, between - turns), (start - turns, stop)
        return [run for run in runs if run[0] < run[1]]

    def borders(self, run: Run) -> FloatArray:
        """The borders between the cells of a run, and its two ends, in the order of the run."""
        own, width = (each[slice(*run)] for each in self)
        sign = -1 if len(own) > 1 and own[1] < own[0] else 1
        borders: FloatArray = np.concatenate([own - sign * width, own[-1:] + sign * width[-1:]])
        return borders

    def at(self, positions: FloatArray, run: Run) -> FloatArray:
        """Converts positions in elements to the axis; ``i - 0.5`` is the start of element ``i``."""
        found: FloatArray = np.interp(
            positions, np.arange(run[0], run[1] + 1) - 0.5, self.borders(run)
        )
        return found


@torch.no_grad()
def regridded(
    coords: Coordinates, dim: int, size: int, window: Window | None, axis: Axis
) -> Coordinates | None:
    """The coordinates after ``size`` new cells along ``dim`` replaced the old ones.

    As in the paper, which enlarges maps without regard to strides and padding, the new cells whose
    window has its middle on the old grid cover that grid evenly. If the windows divide the old
    elements into blocks, or have one element each, the new cells are those after a reshape and a
    mean, or after a slice.

    Args:
        coords: The coordinates on the old grid, which depend on ``dim``.
        dim: The dimension of the grid.
        size: The number of new cells along it.
        window: The window of each new cell; None if the new cells cover the old ones evenly.
        axis: The axis that the coordinates are on.
    """
    old = coords.index.shape[dim]
    filled = filled_along(coords, dim, axis)
    if filled is not coords:
        is_padded = window is not None and _has_padding(coords, dim, window.centers(size), axis)
        coords = coords if is_padded else filled
    is_same = size == old and (window is None or (window.offset, window.stride) == (0, 1))
    if is_same and (window is None or window.reach == 0):
        return narrowed(coords, axis)
    if axis.input == SAMPLES:
        low, high = coords.borders()
        return from_borders(low.amin(dim, keepdim=True), high.amax(dim, keepdim=True), axis)
    block = old // size
    if old % size == 0 and window in (None, Window.of_kernel(block, block, 0, 1)):
        blocks = torch.unflatten(coords.index, dim, (size, block))
        found = mixed(Coordinates(blocks, coords.cells, coords.by_sample), [dim + 1], axis)
        if len(found) == 1:  # as after a reshape and a mean
            return found[0].moved(found[0].index.squeeze(dim + 1))
    if (
        window is not None
        and window.reach == window.offset == 0
        and window.stride > 1
        and not coords.by_sample  # ``widened`` leaves gaps between the cells of each sample
    ):
        every = torch.arange(0, old, int(window.stride), device="cpu")
        kept = coords.moved(coords.index.index_select(dim, every))
        return kept and widened(kept, axis)
    coords = narrowed(coords, axis)
    lines = coords.index.movedim(dim, -1)
    unique, number = lines.reshape(-1, old).unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
    of_cells = Line.of_cells(coords)
    new = [
        _new_line(of_cells.take(line).widened(axis), size, window, axis) for line in unique.numpy()
    ]
    shape = [*lines.shape[:-1], size]
    first, last = (
        torch.from_numpy(np.stack(borders))[number].reshape(shape).movedim(-1, dim)
        for borders in zip(*new, strict=True)
    )
    return from_borders(first, last, axis, by_sample=coords.by_sample)


def _has_padding(coords: Coordinates, dim: int, centers: FloatArray, axis: Axis) -> bool:
    """Whether elements without a cell are padding around a part of the image.

    They are not between elements of the image, and no window has one of them at its middle.
    """
    index = coords.index.movedim(dim, -1)
    beside = torch.from_numpy(np.stack([np.floor(centers), np.ceil(centers)])).long()
    is_at_gap = (index == 0)[..., beside.clamp(0, index.shape[-1] - 1)].all(-2)
    holds = coords.of_elements(axis.holds(coords.cells[:, 0]), False).movedim(dim, -1)
    starts = (holds[..., 1:] & ~holds[..., :-1]).sum(-1) + holds[..., 0].long()
    return not bool(is_at_gap.any()) and bool((starts == 1).all())


def _new_line(
    line: Line, size: int, window: Window | None, axis: Axis
) -> tuple[FloatArray, FloatArray]:
    """The borders of the new cells along a line of old cells; ``inf`` and ``-inf`` for no cell."""
    if window is not None:
        line, window = _without_padding(*_without_inserted_zeros(line, window), axis)
    evenly = len(line.middle) / size
    even = Window((evenly - 1) / 2, evenly, (evenly - 1) / 2)
    every = runs = line.runs(axis)
    if len(runs) > 1:
        runs = _without_repeated_padding(runs, line.middle, (window or even).reach)
    if len(runs) == 1:
        repeated = [run for run in every if run not in runs]
        return _on_one_run(line, runs[0], repeated, size, window, even)
    if window is None or (
        window.stride == evenly and abs(window.offset - even.offset) < evenly / 2
    ):
        window = even
    stride, centers = window.stride, window.centers(size)
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    for run in runs:
        own = (centers >= run[0] - 0.5 - SLACK) & (centers < run[1] - 0.5 - SLACK)
        ends = line.at(centers[own][:, None] + np.array([-stride / 2, stride / 2]), run)
        low[own], high[own] = ends.min(1), ends.max(1)
    return low, high


def _on_one_run(
    line: Line, run: Run, repeated: list[Run], size: int, window: Window | None, even: Window
) -> tuple[FloatArray, FloatArray]:
    """The borders of the new cells if the old cells with a position are all adjacent.

    Windows with their middle on the run cover it, others have the part of the run that they see.
    Windows that see only ``repeated`` runs, which are padding, have the part of these.
    """
    low, high = np.full(size, np.inf), np.full(size, -np.inf)
    start, stop = run
    stride, centers = (window or even).stride, (window or even).centers(size)
    slack = SLACK * stride
    is_on = (centers >= start - 0.5 - slack) & (centers <= stop - 0.5 + slack)
    if not is_on.any():
        return low, high
    if stride == 1 and is_on.sum() > stop - start:
        is_on[np.flatnonzero(is_on)[-1]] = False  # an even kernel, whose last windows are cut off
    ends = (0.0, 1.0) if window is None else _covered(run, centers, is_on, stride)
    borders = np.interp(
        np.linspace(*ends, int(is_on.sum()) + 1),
        np.linspace(0, 1, stop - start + 1),
        line.borders(run),
    )
    low[is_on], high[is_on] = np.sort([borders[:-1], borders[1:]], axis=0)
    if window is not None:
        reach = np.array([-0.5, 0.5]) * (2 * window.reach + 1)
        for start, stop in (run, *repeated):
            seen = (centers[:, None] + reach).clip(start - 0.5, stop - 0.5)
            sees = (low > high) & (seen[:, 1] - seen[:, 0] > SLACK)
            low[sees], high[sees] = np.sort(line.at(seen[sees], (start, stop)), axis=1).T
    return low, high


def _covered(
    run: Run, centers: FloatArray, is_on: NDArray[np.bool_], stride: float
) -> tuple[float, float]:
    """The ends of the part of a run that windows cover together, as shares of the run.

    They cover the whole run, also if the middles are shifted by less than a stride. If they are
    shifted further, as in a causal convolution, each cell is at the middle of its window, or at the
    old cell next to it if the kernel is even.
    """
    start, stop = run
    inside = centers[is_on]
    margins = inside[0] - start, stop - 1 - inside[-1]
    if stride == 1:
        is_shifted = len(inside) < stop - start and abs(margins[0] - margins[1]) > SLACK
        if margins[0] % 1 > SLACK:  # the middles are between old cells
            half = math.copysign(0.5, margins[1] - margins[0])
            margins = margins[0] + half, margins[1] - half
    else:
        difference = centers[0] - start - (stop - 1 - centers[-1])
        is_shifted = stride > 1 and abs(difference) > stride + SLACK
    if not is_shifted:
        return 0.0, 1.0
    beyond = (stride - 1) / 2  # on both sides, a cell is wider than a pixel by this
    length = stop - start
    return (margins[0] - beyond) / length, 1 - (margins[1] - beyond) / length


def _without_inserted_zeros(line: Line, window: Window) -> tuple[Line, Window]:
    """Removes regular zeros between the elements of a line, and adapts the window.

    A convolution of a line with inserted zeros is a transposed convolution of the elements.
    """
    at = np.flatnonzero(~np.isnan(line.middle))
    pitch = int(at[1] - at[0]) if len(at) > 1 else 1
    if pitch < 2 or not (np.diff(at) == pitch).all():
        return line, window
    short = line.take(at)
    distances = np.abs(np.diff(short.middle))
    if not np.allclose(distances, short.half[:-1] + short.half[1:]):
        return line, window  # every n-th pixel, written at its own position
    offset, stride, reach = window.offset - at[0], window.stride, window.reach
    return short, Window(offset / pitch, stride / pitch, reach / pitch)


def _without_padding(line: Line, window: Window, axis: Axis) -> tuple[Line, Window]:
    """Removes elements outside of the image from both ends, as if the window padded the line."""
    at = np.flatnonzero(axis.holds(line.middle))
    if len(at) == 0:
        return line, window
    offset = window.offset - at[0]
    return line.take(np.arange(at[0], at[-1] + 1)), Window(offset, window.stride, window.reach)


def _without_repeated_padding(runs: list[Run], middle: FloatArray, reach: float) -> list[Run]:
    """The longest run alone, if the others are padding by reflection or circular padding."""
    start, stop = max(runs, key=lambda run: run[1] - run[0])
    if stop - start < 2:
        return runs
    low, high = sorted(middle[[start, stop - 1]])
    ends = np.r_[middle[:start], middle[stop:]]
    is_repeated = (ends >= low) & (ends <= high) | np.isnan(ends)
    is_known = ~np.isnan(middle)
    longest = max(is_known[:start].sum(), is_known[stop:].sum())
    if longest > reach + 0.5 or not is_repeated.all():
        return runs
    return [(start, stop)]
