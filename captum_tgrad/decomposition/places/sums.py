"""The cells of sums: those of the elements if these are few, else the smallest cell of all.

A sum of up to four elements has coordinates for each of them. A sum of more has the smallest cell
that holds all of them, or two such cells, as at the seam of a rolled image. It has none if gaps
between the elements take up most of this cell.

:func:`cells_of_sums` takes the sum to which each element belongs. :func:`mixed_on_axes` makes this
list for sums along dimensions, and the rules of operations make it for sums by index and for
products with a constant matrix whose zeros select the summands.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    SAMPLES,
    Axis,
    Coordinates,
    compacted,
    first_of_each,
    from_borders,
    of_each_sample,
    on_common_cells,
)
from captum_tgrad.decomposition.places.graph_nodes import cells_of_nodes
from captum_tgrad.decomposition.places.subsampling import widened
from captum_tgrad.decomposition.places.windows import narrowed

OnAxis = tuple[Axis, Coordinates]


class ScatteredError(RuntimeError):
    """The elements of sums are scattered over an axis, so that no cell describes them."""


class Sums(NamedTuple):
    """Which elements are added.

    Args:
        number: The flat index of the sum to which each element belongs.
        shape: The shape of the sums.
        slot: The number of each element within its sum, if the n-th elements of all sums belong
            together, as in stacked tensors; None if the elements of a sum are in any order.
    """

    number: Tensor
    shape: Sequence[int]
    slot: Tensor | None = None

    def over(self, values: Tensor, at: Tensor, how: str, empty: float) -> Tensor:
        """Reduces values at the numbers ``at`` to one for each sum."""
        every = values.new_full([math.prod(self.shape)], empty)
        return every.scatter_reduce(0, at, values, how).reshape(self.shape)


def mixed(coords: Coordinates, dims: Iterable[int], axis: Axis) -> list[Coordinates]:
    """As :func:`mixed_on_axes`, for coordinates on one axis."""
    return [part for _, part in mixed_on_axes([(axis, coords)], dims)]


def mixed_on_axes(
    coordinates: Iterable[OnAxis], dims: Iterable[int], placed: Container[Axis] = ()
) -> list[OnAxis]:
    """The coordinates after elements along ``dims`` were mixed; these dimensions keep size 1.

    Args:
        coordinates: The coordinates, with their axes.
        dims: The dimensions along which elements were mixed.
        placed: The axes on which the new elements have other coordinates, as those of queries.
            Mixed elements, as keys, then have none if they are scattered.

    Raises:
        ScatteredError: Gaps between the elements take up most of the smallest cell.
    """
    coordinates, dims = list(coordinates), set(dims)
    changing = [pair for pair in coordinates if dims.intersection(pair[1].dims)]
    if not changing:
        return coordinates
    whole = torch.broadcast_shapes(*(coords.index.shape for _, coords in changing))
    shape = [1 if dim in dims else size for dim, size in enumerate(whole)]
    within = [size if dim in dims else 1 for dim, size in enumerate(whole)]
    number, slot = (torch.arange(math.prod(s), device="cpu").reshape(s) for s in (shape, within))
    samples = [c for axis, c in coordinates if axis.input == SAMPLES]
    own = samples[0] if len(samples) == 1 and not dims.intersection(samples[0].dims) else None
    is_only = len({axis for axis, _ in coordinates if axis.is_spatial}) == 1
    found = cells_of_sums(changing, Sums(number, shape, slot), own, is_only, placed)
    return [pair for pair in coordinates if pair not in changing] + found


@torch.no_grad()
def cells_of_sums(
    coordinates: Sequence[OnAxis],
    sums: Sums,
    samples: Coordinates | None,
    is_only: bool,
    placed: Container[Axis] = (),
) -> list[OnAxis]:
    """The coordinates of sums of elements.

    Args:
        coordinates: The coordinates of the elements, which broadcast to ``sums.number``.
        sums: The sum to which each element belongs.
        samples: The samples of the elements; None if they are unknown, or if a sum has elements of
            several samples.
        is_only: Whether no other axis has places.
        placed: The axes on which sums may have no cell.

    Raises:
        ScatteredError: The elements are scattered over another axis.
    """
    if samples is not None and samples.dims:
        at, sample = torch.broadcast_tensors(sums.number, samples.index)  # type: ignore[no-untyped-call]
        samples = compacted(sums.over(sample.flatten(), at.flatten(), "amax", 0), samples.cells)
    if is_only:
        coordinates, sums = _stacked(coordinates, sums)
    pairs = [(axis, _widened_unless_few(coords, axis)) for axis, coords in coordinates]
    spans = [_span(coords, sums) for _, coords in pairs]
    parts: list[list[Coordinates] | None] = [None] * len(pairs)
    spatial = [n for n, (axis, _) in enumerate(pairs) if axis.is_spatial]
    is_one_place = len({pairs[n][0] for n in spatial}) == len(spatial)
    groups = [spatial] if is_one_place else [[n] for n in spatial]

    def try_nodes() -> None:
        for group in groups:
            nodes = cells_of_nodes([pairs[n] for n in group], sums.number, sums.shape)
            for n, node in zip(group, nodes or (), strict=nodes is not None):
                parts[n] = [node]

    if sums.slot is None:
        try_nodes()
    if any(spans[n].has_gaps for n in spatial):
        for group in groups:
            if all(parts[n] is None for n in group):
                few = _few([pairs[n][1] for n in group], sums)
                for n, own in zip(group, few or [None] * len(group), strict=True):
                    windows = spans[n].windows(pairs[n][0], sums)
                    parts[n] = own
                    if windows is not None and not (own and (len(group) > 1 or len(own) == 2)):
                        parts[n] = [windows]
        if all(parts[n] is None for n in spatial):
            try_nodes()
    parted = []
    for n, (axis, coords) in enumerate(pairs):
        own = parts[n]
        if own is None:
            own = _hulls(coords, spans[n], axis, samples, sums.slot is not None, axis in placed)
            if len(own) == 2 and n in spatial:
                parted.append(own)
        parts[n] = own
    if len(spatial) > 1 and len(parted) == 2:
        rows, columns = parted  # a window at the seams of both has four parts
        rows[:], columns[:] = [each for each in rows for _ in columns], columns * 2
    if sums.slot is None:
        parts = [_unless_wide(*each, samples) for each in zip(pairs, parts, spans, strict=True)]
    return [(axis, part) for (axis, _), own in zip(pairs, parts, strict=True) for part in own]


def _unless_wide(
    pair: OnAxis, parts: list[Coordinates], span: _Span, samples: Coordinates | None
) -> list[Coordinates]:
    """Leaves out the cells of samples whose sums cover most of an axis.

    Dense and pruned matrices have zeros, too. The sums of a triangular one cover half.
    """
    axis, _ = pair
    if axis.input == SAMPLES:
        return parts
    widths = torch.zeros((), dtype=torch.float64, device="cpu")
    for part in parts:
        low, high = part.borders()
        widths = widths + (high - low).clamp_min(0)
    widths = widths.where(widths > 0, axis.extent)
    sample = torch.zeros((), dtype=torch.long, device="cpu") if samples is None else samples.index
    widths, sample, stop = torch.broadcast_tensors(widths, sample, span.stop)  # type: ignore[no-untyped-call]
    has = stop.isfinite()
    count = sample[has].bincount()
    mean = sample[has].bincount(widths[has]) / count
    is_wide = ((mean > axis.extent * 3 / 4) & (count > 1))
    is_wide = torch.cat([is_wide, is_wide.new_zeros(int(sample.max()) + 1)])[sample]
    left = [part.moved(part.index.where(~is_wide, 0)) for part in parts]
    return [part for part in left if part is not None]


def _stacked(coordinates: Sequence[OnAxis], sums: Sums) -> tuple[Sequence[OnAxis], Sums]:
    """Several coordinates on the only axis of positions become several elements of each sum."""
    own = list(dict.fromkeys(pair for pair in coordinates if pair[0].is_spatial))
    if len(own) < 2 or len({(axis, coords.dims) for axis, coords in own}) > 1:
        return coordinates, sums
    cells, indices = on_common_cells([coords for _, coords in own])
    index = torch.stack(torch.broadcast_tensors(*indices), -1)  # type: ignore[no-untyped-call]
    by_sample = any(coords.by_sample for _, coords in own)
    others = [
        (axis, Coordinates(coords.index.unsqueeze(-1), coords.cells, coords.by_sample))
        for axis, coords in coordinates
        if axis != own[0][0]
    ]
    together = (own[0][0], Coordinates(index, cells, by_sample))
    slot = sums.slot
    if slot is not None:
        slot = slot.unsqueeze(-1) * len(own) + torch.arange(len(own), device="cpu")
    return [*others, together], Sums(sums.number.unsqueeze(-1), sums.shape, slot)


def _widened_unless_few(coords: Coordinates, axis: Axis) -> Coordinates:
    """Widens the cells of a subsampled grid, unless it is small."""
    return widened(coords, axis) if len(coords.cells) > MOST_COORDINATES else coords


class _Span(NamedTuple):
    """The smallest cell that holds all elements of a sum, and the gaps between these.

    Args:
        start: The lower border; inf for a sum without elements.
        stop: The upper border; -inf for a sum without elements.
        end: Where the largest gap starts; the upper border if there is none.
        begin: Where the largest gap stops.
        gaps: The size of all gaps.
        smallest: The size of the smallest gap.
        count: The number of gaps.
        width: The width of the smallest cell of any element.
    """

    start: Tensor
    stop: Tensor
    end: Tensor
    begin: Tensor
    gaps: Tensor
    smallest: Tensor
    count: Tensor
    width: float
    by_sample: bool

    @property
    def has_gaps(self) -> bool:
        """Whether there are gaps as wide as the smallest cell."""
        return bool((self.begin - self.end > self.width * (1 - SLACK)).any())

    def windows(self, axis: Axis, sums: Sums) -> Coordinates | None:
        """Adjacent cells in place of the smallest ones, if these overlap as those of a convolution.

        A cell may cross an end of the axis: columns 14, 15 and 0 of 16 reach from 13.5 to 16.5, as
        a window after circular padding does.
        """
        begin, end = self.begin - axis.extent, self.end
        begin, end = (torch.where(begin + end < -1, b + axis.extent, b) for b in (begin, end))
        crosses = (self.stop - self.start >= axis.extent - SLACK) & (end - begin < axis.extent / 2)
        low, high = torch.where(crosses, begin, self.start), torch.where(crosses, end, self.stop)
        hull = from_borders(low, high, axis, self.by_sample)
        found = narrowed(hull, axis)
        return None if found is hull else found


def _span(coords: Coordinates, sums: Sums) -> _Span:
    at, number = torch.broadcast_tensors(sums.number, coords.index)  # type: ignore[no-untyped-call]
    low, high = borders_of(coords.cells)
    order = low.argsort(stable=True)
    low, high = low[order], high[order]
    has, count = number > 0, len(order)
    pairs = (at[has] * count + order.argsort()[number[has] - 1]).unique()  # type: ignore[no-untyped-call]
    at, cell = pairs // count, pairs % count
    tops, top = high.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    reach = tops[(at * len(tops) + top[cell]).cummax(0).values % len(tops)]  # within each sum
    low, high = low[cell], high[cell]
    is_same = at[1:] == at[:-1]
    before, after, of = reach[:-1][is_same], low[1:][is_same], at[1:][is_same]
    gap = (after - before).clamp_min(0)
    largest = sums.over(gap, of, "amax", 0)
    position = torch.arange(len(gap), device="cpu").where(gap == largest.flatten()[of], len(gap))
    position = sums.over(position, of, "amin", len(gap))
    start, stop = sums.over(low, at, "amin", torch.inf), sums.over(high, at, "amax", -torch.inf)
    end, begin = (
        torch.cat([each, each.new_zeros(1)])[position].where(position < len(gap), stop)
        for each in (before, after)
    )
    is_gap = gap > SLACK
    return _Span(
        start,
        stop,
        end,
        begin,
        sums.over(gap, of, "sum", 0),
        sums.over(gap.where(is_gap, torch.inf), of, "amin", torch.inf),
        sums.over(is_gap.long(), of, "sum", 0),
        float(coords.cells[:, 1].min()),
        coords.by_sample,
    )


def _hulls(
    coords: Coordinates, span: _Span, axis: Axis, samples: Coordinates | None, together, is_placed
) -> list[Coordinates]:
    """The smallest cells that hold all elements, one or two for each sum."""
    start, stop, end, begin, gaps, smallest, count, width, _ = span
    size, gap = stop - start, (begin - end).nan_to_num(0).clamp_min(0)
    # A single gap splits them if it is as wide as a cell, one of several if it is most of the size.
    apart = gap > torch.where(count == 1, width * (1 - SLACK), size / 2)
    outside = gap.where(apart, 0)
    # Every n-th element of the whole axis, as in grid attention, covers it and is no error.
    is_even = (gap - smallest < SLACK) & ~apart
    everywhere = is_even & (gap > SLACK) & (size + 2 * gap > axis.extent - SLACK)
    start, stop = start.where(~everywhere, -0.5), stop.where(~everywhere, axis.extent - 0.5)
    if axis.is_spatial:
        scattered = (size > 0) & (gaps - outside > (size - outside) / 2) & ~everywhere
        if together:
            sample = torch.zeros_like(at := scattered, dtype=torch.long) if samples is None else samples.index.expand_as(scattered)
            scattered = torch.isin(sample, sample[scattered])
            if not is_placed and bool(scattered.all()):
                raise ScatteredError
        start, apart = start.masked_fill(scattered, torch.inf), apart & ~scattered
    found = []
    for low, high in (
        (start, torch.where(apart, end, stop)),
        (torch.where(apart, begin, start), stop),
    ):
        hull = from_borders(low, high, axis, coords.by_sample)
        if hull is not None and samples is not None and axis.input != SAMPLES:
            hull = of_each_sample(hull, samples)
        found.append(narrowed(hull, axis))
    return list(dict.fromkeys(each for each in found if each is not None))


def _few(coordinates: Sequence[Coordinates], sums: Sums) -> list[list[Coordinates]] | None:
    """The coordinates of each element of a sum; None if these are more than the most.

    A sum of stacked tensors has those of each distinct tensor. Other sums have the distinct cells
    of their elements, in order, and repeat these if they are fewer than those of another sum.

    Args:
        coordinates: The coordinates of the elements on each axis.
        sums: The sum to which each element belongs.
    """
    at, *numbers = torch.broadcast_tensors(sums.number, *(c.index for c in coordinates))  # type: ignore[no-untyped-call]
    sizes, size = [len(coords.cells) + 1 for coords in coordinates], math.prod(sums.shape)
    place = torch.zeros_like(at)
    for number, count in zip(numbers, sizes, strict=True):
        place = place * count + number
    rows = None
    if sums.slot is not None:
        slot = sums.slot[tuple(map(slice, at.shape))].unique(return_inverse=True)[1]
        rows = place.new_zeros(int(slot.max()) + 1, size)
        rows[slot.expand_as(at), at] = place
        first = first_of_each(rows.unique(dim=0, return_inverse=True)[1])[0]  # type: ignore[no-untyped-call]
        rows = rows[first.sort().values]
        rows = rows[rows.any(1)]
    if rows is None or len(rows) > MOST_COORDINATES:
        every = math.prod(sizes)
        pairs = (at * every + place)[place > 0].unique()  # type: ignore[no-untyped-call]
        at, place = pairs // every, pairs % every
        counts = at.bincount(minlength=size)
        most = int(counts.max())
        if most > MOST_COORDINATES:
            return None
        start, has = counts.cumsum(0) - counts, counts > 0
        each = torch.arange(most, device="cpu").unsqueeze(1)
        rows = place.new_zeros(most, size)
        rows[:, has] = place[start[has] + each % counts[has]]
    index = torch.unravel_index(rows.reshape(-1, *sums.shape), sizes)
    return [
        [part for row in own if (part := coords.moved(row)) is not None]
        for coords, own in zip(coordinates, index, strict=True)
    ]
