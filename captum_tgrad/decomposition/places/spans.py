"""The smallest cells that hold all elements of sums, and the gaps between these elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    from_borders,
    of_each_sample,
    sample_index,
)
from captum_tgrad.decomposition.places.windows import narrowed


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

    def reduce(self, values: Tensor, at: Tensor, how: str, empty: float) -> Tensor:
        """Reduces values of the sums with the numbers ``at`` to one for each sum."""
        every = values.new_full([math.prod(self.shape)], empty)
        return every.scatter_reduce(0, at, values, how).reshape(self.shape)


class Span(NamedTuple):
    """The smallest cell that holds all elements of a sum, and the gaps between these.

    Args:
        start: The lower border; inf for a sum without elements.
        stop: The upper border; -inf for a sum without elements.
        end: Where the largest gap starts; the upper border if there is none.
        begin: Where the largest gap stops; the upper border if there is none.
        gaps: The size of all gaps.
        smallest: The size of the smallest gap.
        number: The number of gaps.
        width: The width of the smallest cell of any element.
        by_sample: Whether the samples have different cells.
    """

    start: Tensor
    stop: Tensor
    end: Tensor
    begin: Tensor
    gaps: Tensor
    smallest: Tensor
    number: Tensor
    width: float
    by_sample: bool

    @property
    def has_gaps(self) -> bool:
        """Whether there are gaps as wide as the smallest cell."""
        return bool((self.begin - self.end > self.width * (1 - SLACK)).any())


def span_of(coords: Coordinates, sums: Sums) -> Span:
    """The span of the elements of each sum, on one axis."""
    at, number = torch.broadcast_tensors(sums.number, coords.index)  # type: ignore[no-untyped-call]
    low, high = borders_of(coords.cells)
    order = low.argsort(stable=True)
    low, high = low[order], high[order]
    has, count = number > 0, len(order)
    pairs = (at[has] * count + order.argsort()[number[has] - 1]).unique()
    at, cell = pairs // count, pairs % count
    tops, top = high.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    reach = tops[(at * len(tops) + top[cell]).cummax(0).values % len(tops)]  # within each sum
    low, high = low[cell], high[cell]
    is_same = at[1:] == at[:-1]
    before, after, of = reach[:-1][is_same], low[1:][is_same], at[1:][is_same]
    gap = (after - before).clamp_min(0)
    largest = sums.reduce(gap, of, "amax", 0)
    first = torch.arange(len(gap), device="cpu").where(gap == largest.flatten()[of], len(gap))
    first = sums.reduce(first, of, "amin", len(gap))
    start, stop = sums.reduce(low, at, "amin", torch.inf), sums.reduce(high, at, "amax", -torch.inf)
    end, begin = (
        torch.cat([each, each.new_zeros(1)])[first].where(first < len(gap), stop)
        for each in (before, after)
    )
    is_gap = gap > SLACK
    return Span(
        start, stop, end, begin,
        gaps=sums.reduce(gap, of, "sum", 0),
        smallest=sums.reduce(gap.where(is_gap, torch.inf), of, "amin", torch.inf),
        number=sums.reduce(is_gap.long(), of, "sum", 0),
        width=float(coords.cells[:, 1].min()),
        by_sample=coords.by_sample,
    )  # fmt: skip


def windows_of(span: Span, axis: Axis) -> Coordinates | None:
    """Adjacent cells in place of the smallest ones, if these overlap as those of a convolution.

    A window may cross an end of the axis: columns 14, 15 and 0 of 16 reach from 13.5 to 16.5, as
    after circular padding.
    """
    start, stop, end, begin, *_ = span
    begin = begin - axis.extent
    crosses = (stop - start >= axis.extent - SLACK) & (end - begin < axis.extent / 2)
    begin, end = (torch.where(begin + end < -1, each + axis.extent, each) for each in (begin, end))
    low, high = torch.where(crosses, begin, start), torch.where(crosses, end, stop)
    hull = from_borders(low, high, axis, span.by_sample)
    windows = hull and narrowed(hull, axis)
    return None if windows is hull else windows


def hulls_of(
    span: Span, axis: Axis, samples: Coordinates | None, sums: Sums, is_placed: bool
) -> list[Coordinates]:
    """The smallest cells that hold all elements, one or two for each sum."""
    start, stop, end, begin, *_ = span
    size, gap = stop - start, (begin - end).nan_to_num(0)
    # A single gap splits them if it is as wide as a cell, one of several if it is most of the size.
    apart = gap > torch.where(span.number == 1, span.width * (1 - SLACK), size / 2)
    outside = gap.where(apart, 0)
    scattered = (size > 0) & (span.gaps - outside > (size - outside) / 2)
    # Every n-th element of the whole axis, as in grid attention, covers it and is no error.
    is_even = (gap - span.smallest < SLACK) & (gap > SLACK) & ~apart
    everywhere = is_even & (size + 2 * gap > axis.extent - SLACK)
    scattered &= ~everywhere
    start, stop = start.where(~everywhere, -0.5), stop.where(~everywhere, axis.extent - 0.5)
    if sums.slot is not None:  # all sums of a sample are scattered if one of them is
        sample = sample_index(samples).expand_as(scattered)
        scattered = torch.isin(sample, sample[scattered])
        if axis.is_spatial and not is_placed and bool(scattered.all()):
            raise ScatteredError
    if axis.input != SAMPLES:
        start, apart = start.masked_fill(scattered, torch.inf), apart & ~scattered
    found = []
    for low, high in (
        (start, torch.where(apart, end, stop)),
        (torch.where(apart, begin, start), stop),
    ):
        hull = from_borders(low, high, axis, span.by_sample, sample_index(samples))
        if hull is None:
            continue
        if samples is not None and axis.input != SAMPLES:
            hull = of_each_sample(hull, samples)
        found.append(narrowed(hull, axis))
    return list(dict.fromkeys(each for each in found if each.dims or not is_placed))


def unless_wide(
    parts: list[Coordinates], span: Span, axis: Axis, samples: Coordinates | None
) -> list[Coordinates]:
    """Leaves out samples whose sums cover more than three quarters of an axis on average.

    They are sums with a dense or a pruned matrix, which may have zeros too. Sums with a triangular
    matrix cover half of it.
    """
    if axis.input == SAMPLES or span.stop.numel() == 1:
        return parts
    widths = torch.zeros((), dtype=torch.float64, device="cpu")
    for low, high in (part.borders() for part in parts):
        widths = widths + (high - low).clamp_min(0)
    widths, borders = widths.where(widths > 0, axis.extent), torch.stack([span.start, span.stop])
    for dim in range(1, borders.dim()):  # equal sums, as of channels, count once
        first = borders.narrow(dim, 0, 1)
        borders = first if torch.equal(borders, first.expand_as(borders)) else borders
    widths, sample, stop = torch.broadcast_tensors(widths, sample_index(samples), borders[1])  # type: ignore[no-untyped-call]
    has, size = stop.isfinite(), int(sample.max()) + 1
    count = sample[has].bincount(minlength=size)
    mean = sample[has].bincount(widths[has], size) / count
    is_wide = ((mean > axis.extent * 3 / 4) & (count > 1))[sample]
    left = (part.moved(part.index.where(~is_wide, 0)) for part in parts)
    return [part for part in left if part is not None]
