"""The coordinates of elements that are sums or other mixtures of several elements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    coordinates,
    from_borders,
    of_each_sample,
    whole_axis,
)
from captum_tgrad.decomposition.places.places import MOST_CLAIMS, merged
from captum_tgrad.decomposition.places.whole_grid import widened
from captum_tgrad.decomposition.places.windows import (
    across_ends,
    around_largest_gap,
    gaps_between,
    in_order,
    narrowed,
)


class Summands(NamedTuple):
    """The summands of sums, by the numbers of their cells.

    Args:
        claim: The coordinates from which they are taken.
        numbers: The number of each summand's cell; 0 if it has none.
        sums: The flat index of the sum to which each summand belongs, broadcastable to ``numbers``.
        shape: The shape of the sums.
    """

    claim: Coordinates
    numbers: Tensor
    sums: Tensor
    shape: Sequence[int]


class ScatteredError(RuntimeError):
    """The mixed elements are scattered over an axis, so that no cell describes them."""


def mixed(claim: Coordinates, dims: Iterable[int], axis: Axis) -> list[Coordinates]:
    """Applies :func:`mixed_on_axes` to coordinates on one axis."""
    return [part for _, part in mixed_on_axes([(axis, claim)], dims)]


@torch.no_grad()
def mixed_on_axes(
    claims: Iterable[tuple[Axis, Coordinates]], dims: Iterable[int]
) -> list[tuple[Axis, Coordinates]]:
    """The coordinates after elements along ``dims`` were mixed; these dimensions keep size 1.

    Each new element has the cells of the elements that were mixed. If these are many, it has the
    smallest cell that holds all of them, or two such cells, as at the seam of a rolled image.

    Raises:
        ScatteredError: Gaps between the elements take up most of the smallest cell.
    """
    dims = list(dims)
    whole = [(axis, _whole(claim, dims, axis)) for axis, claim in claims]
    scattered = [(axis, claim) for axis, claim in whole if _is_scattered(claim, dims, axis)]
    on_several = len(scattered) > 1 and len({axis for axis, _ in scattered}) == len(scattered)
    places = _numbers_of_places([claim for _, claim in scattered]) if on_several else None
    found: list[tuple[Axis, list[Coordinates]]] = []
    parted = []
    for axis, claim in whole:
        is_scattered = (axis, claim) in scattered
        parts = _each(claim, dims, axis, places) if is_scattered else None
        if parts is None:
            parts = _together(claim, dims, axis)
            if is_scattered and len(parts) == 2:
                parted.append(parts)
        found.append((axis, parts))
    if on_several and len(parted) == 2:
        rows, columns = parted  # a window at the seams of both has four parts
        rows[:], columns[:] = [each for each in rows for _ in columns], columns * 2
    return [(axis, part) for axis, parts in found for part in parts]


def _numbers_of_places(claims: Sequence[Coordinates]) -> Tensor:
    """A number for each element that is equal for elements with the same cells on all axes."""
    numbers = torch.zeros((), dtype=torch.long, device="cpu")
    for claim in claims:
        numbers = numbers * (len(claim.cells) + 1) + claim.index
    return numbers


def _whole(claim: Coordinates, dims: Sequence[int], axis: Axis) -> Coordinates:
    """Adapts the cells of elements that are mixed along ``dims``, as for a whole grid."""
    is_mixed = any(dim in claim.dims for dim in dims)
    return widened(claim, axis) if is_mixed and len(claim.cells) > MOST_CLAIMS else claim


def _is_scattered(claim: Coordinates, dims: Sequence[int], axis: Axis) -> bool:
    """Whether there are gaps between mixed elements, as wide as the smallest cell."""
    if not axis.is_spatial or not set(dims) & set(claim.dims):
        return False
    low, high, _ = _in_sums(claim, dims)
    width = float(claim.cells[:, 1].min())
    return bool((gaps_between(low, high) > width * (1 - SLACK)).any())


def _in_sums(claim: Coordinates, dims: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
    """The borders of the cells that are mixed, by :func:`in_order`, and the shape of the sums."""
    low, high = in_order(*(_along_last(border, claim, dims) for border in claim.borders()))
    return low, high, [1 if dim in dims else size for dim, size in enumerate(claim.index.shape)]


def _along_last(values: Tensor, claim: Coordinates, dims: Sequence[int]) -> Tensor:
    """Moves the dimensions along which a claim is mixed to the end, and joins them."""
    over = [dim for dim in dims if dim in claim.dims]
    return values.movedim(over, list(range(-len(over), 0))).flatten(-len(over))


def _together(claim: Coordinates, dims: Sequence[int], axis: Axis) -> list[Coordinates]:
    """The smallest cells that hold all elements that were mixed, one or two for each sum."""
    if not set(dims) & set(claim.dims):
        return [claim]
    low, high, shape = _in_sums(claim, dims)
    width = float(claim.cells[:, 1].min())
    cells = [
        narrowed(
            from_borders(start.reshape(shape), stop.reshape(shape), axis, claim.by_sample),
            axis,
        )
        for start, stop in _two_parts(low, high, width, axis, claim.by_sample)
    ]
    return list(dict.fromkeys(each for each in cells if each is not None))


def _each(
    claim: Coordinates, dims: Sequence[int], axis: Axis, places: Tensor | None
) -> list[Coordinates] | None:
    """The coordinates of sums of elements with gaps between them: windows, or each of few cells.

    Args:
        claim: The coordinates of the elements.
        dims: The dimensions along which they were mixed.
        axis: The axis that they are on.
        places: A number for the place of each element on all axes on which the elements are
            scattered; None if this is the only one.

    Returns:
        None if neither describes them.
    """
    if places is not None:
        claim = Coordinates(claim.index.expand(places.shape), claim.cells, claim.by_sample)
        places = _along_last(places, claim, dims).flatten()
    low, high, shape = _in_sums(claim, dims)
    numbers = _along_last(claim.index, claim, dims).flatten()
    sums = torch.arange(math.prod(shape), device="cpu").repeat_interleave(low.shape[-1])
    summands = Summands(claim, numbers, sums, shape)
    few = few_cells(summands, claim.by_sample, places=places)
    if few is not None and places is not None:
        return few
    start, stop = (border.reshape(shape) for border in across_ends(low, high, axis))
    hull = from_borders(start, stop, axis, claim.by_sample)
    windows = narrowed(hull, axis)
    if windows is not None and windows is not hull:  # as of a dilated convolution
        return None if few is not None and len(few) == 2 else [windows]
    return None if few is None else list(merged(few, axis))


def few_cells(
    summands: Summands,
    by_sample: bool = False,
    is_only: bool = False,
    places: Tensor | None = None,
) -> list[Coordinates] | None:
    """One claim for each summand of a sum, with its cell; None for more than ``MOST_CLAIMS`` cells.

    Claims have the order of the summands, so that the n-th row and the n-th column are those of the
    same summand. If no other axis has places, cells are sorted, so that this order does not matter.

    Args:
        summands: The summands.
        by_sample: As for :class:`Coordinates`.
        is_only: Whether no other axis has places.
        places: The number of each summand's place on all axes, by which repeated summands are left
            out; None for their cells.
    """
    claim, numbers, sums, shape = summands
    places = numbers if places is None else places
    at, number, place = (each[numbers > 0] for each in (sums, numbers, places))
    order = (at * (len(claim.cells) + 1) + number if is_only else at).argsort(stable=True)
    at, number, place = at[order], number[order], place[order]
    counts = at.bincount(minlength=math.prod(shape))
    if is_only or int(counts.max()) > MOST_CLAIMS:
        first = _first_of_each(at * (int(places.max()) + 1) + place)
        at, number = at[first], number[first]
        counts = at.bincount(minlength=math.prod(shape))
    most, start = int(counts.max()), counts.cumsum(0) - counts
    if most > MOST_CLAIMS:
        return None
    found, has = [], counts > 0
    for each in range(most):
        cells = torch.zeros_like(counts)
        cells[has] = number[start[has] + each % counts[has]]  # fewer than ``most`` are repeated
        found.append(coordinates(cells.reshape(shape), claim.cells, by_sample))
    return [each for each in found if each is not None]


def _first_of_each(values: Tensor) -> Tensor:
    """The positions at which a value occurs for the first time, sorted."""
    unique, which = values.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    position = torch.arange(len(values), device="cpu")
    first = torch.full_like(unique, len(values)).scatter_reduce(0, which, position, "amin")
    return first.sort().values


def cells_of_sums(
    summands: Summands, axis: Axis, samples: Coordinates | None, is_only: bool
) -> list[Coordinates]:
    """The coordinates of sums: the cells of few summands, or the smallest cell that holds many.

    If element ``i`` is a summand of sum ``i``, as in a graph whose nodes have links to themselves,
    sum ``i`` keeps its cell alone. Many summands have no cell if they fill less than half of it, or
    if a sample has several sums that cover more than half of the axis on average.

    Args:
        summands: The summands.
        axis: The axis of the coordinates.
        samples: The samples of the summands, broadcastable to their numbers; None if no sum belongs
            to a sample of its own.
        is_only: Whether no other axis has places.
    """
    claim, numbers, sums, shape = summands
    has = numbers > 0
    summands = Summands(claim, numbers[has], sums.expand_as(numbers)[has], shape)
    if axis.input == SAMPLES:
        hull = _hull(summands, axis, None)
        return [] if hull is None else [hull]
    kept = _own_cells(summands)
    if kept is not None:
        return [kept]
    if samples is not None:
        sample = torch.zeros(math.prod(shape), dtype=torch.long, device="cpu")
        sample.scatter_reduce_(0, summands.sums, samples.index.expand_as(numbers)[has], "amax")
        samples = coordinates(sample.reshape(shape), samples.cells)
    few = few_cells(summands, is_only=is_only)
    if few is None:
        hull = _hull(summands, axis, samples)
        few = [] if hull is None else [hull]
    is_wide = _are_wide(few, axis, samples)
    if not bool(is_wide.any()):
        return few
    left = [coordinates(each.index.where(~is_wide, 0), each.cells, each.by_sample) for each in few]
    return [each for each in left if each is not None]


def _are_wide(cells: Sequence[Coordinates], axis: Axis, samples: Coordinates | None) -> Tensor:
    """Whether the sums of a sample cover more than half of the axis on average, for each sum."""
    widths = torch.zeros((), dtype=torch.float64, device="cpu")
    for each in cells:
        low, high = each.borders()
        widths = widths + (high - low).clamp_min(0)
    sample = torch.zeros((), dtype=torch.long, device="cpu") if samples is None else samples.index
    widths, sample = torch.broadcast_tensors(widths, sample)  # type: ignore[no-untyped-call]
    count = sample.flatten().bincount().clamp_min(1)
    mean = sample.flatten().bincount(widths.flatten()) / count
    is_wide: Tensor = ((mean > axis.extent / 2) & (count > 1))[sample]
    return is_wide


def _own_cells(summands: Summands) -> Coordinates | None:
    """The coordinates of sums of which the i-th has the i-th cell; None if one lacks this summand.

    Each summand has a cell.
    """
    claim, numbers, sums, shape = summands
    cells = len(claim.cells)
    held = (sums * cells + numbers - 1).unique()  # type: ignore[no-untyped-call]
    if len(held) > math.prod(shape) * cells / 2:
        return None
    every = torch.arange(math.prod(shape), device="cpu").reshape(shape)
    for dim, size in enumerate(shape):
        if size % cells == 0:  # more than once if a dimension holds several samples in turn
            own = (whole_axis(shape, dim).index - 1) % cells
            if bool(torch.isin(every * cells + own, held).all()):
                return claim.moved(own + 1)
    return None


def _hull(summands: Summands, axis: Axis, samples: Coordinates | None) -> Coordinates | None:
    """For each sum, the smallest cell that holds all summands; see :func:`cells_of_sums`."""
    claim, numbers, sums, shape = summands
    low, high = borders_of(claim.cells)
    low, high = (
        torch.full([math.prod(shape)], empty, dtype=torch.float64, device="cpu")
        .scatter_reduce(0, sums, values[numbers - 1], how)
        .reshape(shape)
        for values, how, empty in ((low, "amin", torch.inf), (high, "amax", -torch.inf))
    )
    if axis.input != SAMPLES:
        pairs = (sums * len(claim.cells) + numbers - 1).unique()  # type: ignore[no-untyped-call]
        widths = claim.cells[pairs % len(claim.cells), 1]
        filled = (pairs // len(claim.cells)).bincount(widths, math.prod(shape)).reshape(shape)
        low = low.where(filled > (high - low) / 2 - SLACK, torch.inf)
    hull = from_borders(low, high, axis)
    if hull is not None and samples is not None:  # windows of several samples are not sliding ones
        hull = of_each_sample(hull, samples, axis)
    return narrowed(hull, axis)


def _two_parts(
    low: Tensor, high: Tensor, width: float, axis: Axis, by_sample: bool
) -> list[tuple[Tensor, Tensor]]:
    """The borders of two cells that hold all cells along the last dimension; equal for no gap.

    ``low`` and ``high`` are those of ``in_order``, and ``width`` is that of the smallest cell. If
    samples have different cells, scattered sums have none, so that those of other samples do.
    """
    start, stop = low[..., 0], high[..., -1]
    gaps = gaps_between(low, high)
    gap = gaps.amax(-1)
    size = stop - start
    # A single gap splits them if it is as wide as a cell, one of several if it is most of the size.
    is_only = (gaps > SLACK).sum(-1) == 1
    apart = gap > torch.where(is_only, width * (1 - SLACK), size / 2)
    outside = gap.where(apart, 0)
    scattered = (size > 0) & (gaps.sum(-1) - outside > (size - outside) / 2)
    # Every n-th element of the whole axis, as in grid attention, covers it and is no error.
    is_even = (gap - gaps.where(gaps > SLACK, torch.inf).amin(-1) < SLACK) & ~apart
    everywhere = is_even & (gap > SLACK) & (size + 2 * gap > axis.extent - SLACK)
    scattered &= ~everywhere
    if axis.is_spatial and bool(scattered.all() if by_sample else scattered.any()):
        raise ScatteredError
    start, stop = start.where(~everywhere, -0.5), stop.where(~everywhere, axis.extent - 0.5)
    if axis.is_spatial:
        start, apart = start.masked_fill(scattered, torch.inf), apart & ~scattered
    end, begin = around_largest_gap(low, high)
    return [(start, torch.where(apart, end, stop)), (torch.where(apart, begin, start), stop)]
