"""The coordinates of elements that are sums or other mixtures of all elements along dimensions."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, are_all_pixels
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    first_of_each,
    from_borders,
)
from captum_tgrad.decomposition.places.merging import merged
from captum_tgrad.decomposition.places.places import MOST_CLAIMS
from captum_tgrad.decomposition.places.summands import Summands, few_cells, joined, own_cells
from captum_tgrad.decomposition.places.whole_grid import widened
from captum_tgrad.decomposition.places.windows import (
    across_ends,
    around_largest_gap,
    gaps_between,
    in_order,
    narrowed,
)


class ScatteredError(RuntimeError):
    """The mixed elements are scattered over an axis, so that no cell describes them."""


def mixed(claim: Coordinates, dims: Iterable[int], axis: Axis) -> list[Coordinates]:
    """Applies :func:`mixed_on_axes` to coordinates on one axis."""
    return [part for _, part in mixed_on_axes([(axis, claim)], dims)]


@torch.no_grad()
def mixed_on_axes(
    claims: Iterable[tuple[Axis, Coordinates]],
    dims: Iterable[int],
    placed: Container[Axis] = (),
) -> list[tuple[Axis, Coordinates]]:
    """The coordinates after elements along ``dims`` were mixed; these dimensions keep size 1.

    Each new element has the cells of the elements that were mixed. If these are many, it has the
    smallest cell that holds all of them, or two such cells, as at the seam of a rolled image.

    Args:
        claims: The coordinates, with their axes.
        dims: The dimensions along which elements were mixed.
        placed: The axes on which the new elements have other coordinates, as those of queries.
            Mixed elements, as keys, then have none if they are scattered, or one cell for all.

    Raises:
        ScatteredError: Gaps between the elements take up most of the smallest cell.
    """
    claims, dims = list(claims), list(dims)
    several = _several(claims, dims, placed)
    if len(several) < 2:
        return _mixed_apart(claims, dims, placed)
    # An additional dimension holds the claims of each element, which are mixed with one another.
    only = several[0][0]
    together = joined([_whole(claim, dims, only) for _, claim in several])
    others = [
        (axis, Coordinates(claim.index.unsqueeze(-1), claim.cells, claim.by_sample))
        for axis, claim in claims
        if axis != only
    ]
    dims.append(together.index.dim() - 1)
    return [
        (axis, Coordinates(part.index.squeeze(-1), part.cells, part.by_sample))
        for axis, part in _mixed_apart([*others, (only, together)], dims, placed)
    ]


def _several(
    claims: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int], placed: Container[Axis]
) -> list[tuple[Axis, Coordinates]]:
    """The claims on the only axis of positions, if they change along the same mixed dimensions."""
    own = [(axis, claim) for axis, claim in dict.fromkeys(claims) if axis.is_spatial]
    along = {frozenset(dims).intersection(claim.dims) for _, claim in own}
    is_one = len({axis for axis, _ in own}) == len(along) == 1 and own[0][0] not in placed
    return own if is_one and all(along) else []


def _mixed_apart(
    claims: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int], placed: Container[Axis]
) -> list[tuple[Axis, Coordinates]]:
    """As :func:`mixed_on_axes`, with each claim mixed on its own."""
    whole = [(axis, _whole(claim, dims, axis)) for axis, claim in claims]
    of_samples = [claim for axis, claim in whole if axis.input == SAMPLES]
    samples = of_samples[0] if len(of_samples) == 1 else None
    changing = [(axis, claim) for axis, claim in whole if set(dims) & set(claim.dims)]
    scattered = [(axis, claim) for axis, claim in changing if axis.is_spatial]
    if not any(_is_scattered(claim, dims) for _, claim in scattered):
        scattered = []
    on_several = len(scattered) > 1 and len({axis for axis, _ in scattered}) == len(scattered)
    places = _numbers_of_places([claim for _, claim in scattered]) if on_several else None
    of_scattered = {
        (axis, claim): _each(claim, dims, axis, places, samples) for axis, claim in scattered
    }
    if scattered and all(parts is None for parts in of_scattered.values()):
        own = _own(scattered, dims)
        of_scattered = {
            pair: None if each is None else [each]
            for pair, each in zip(scattered, own, strict=True)
        }
    found: list[tuple[Axis, list[Coordinates]]] = []
    parted = []
    for axis, claim in whole:
        parts = of_scattered.get((axis, claim))
        if parts is None:
            try:
                parts = _together(claim, dims, axis, samples)
            except ScatteredError:
                if axis not in placed:
                    raise
                parts = []
            if axis in placed and axis.is_spatial and set(dims) & set(claim.dims):
                parts = [part for part in parts if part.dims]
            if (axis, claim) in of_scattered and len(parts) == 2:
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


def _is_scattered(claim: Coordinates, dims: Sequence[int]) -> bool:
    """Whether there are gaps between mixed elements, as wide as the smallest cell."""
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


def _together(
    claim: Coordinates, dims: Sequence[int], axis: Axis, samples: Coordinates | None
) -> list[Coordinates]:
    """The smallest cells that hold all elements that were mixed, one or two for each sum."""
    if not set(dims) & set(claim.dims):
        return [claim]
    is_one = set(claim.dims) <= set(dims) and axis.input != SAMPLES
    if is_one and are_all_pixels(claim.cells, axis.extent):
        return []
    low, high, shape = _in_sums(claim, dims)
    width = float(claim.cells[:, 1].min())
    sample = None
    if samples is not None and samples.dims and set(samples.dims) <= set(claim.dims) - set(dims):
        sample = _along_last(samples.index, claim, dims)[..., 0]
    by_sample = claim.by_sample or sample is not None
    cells = [
        narrowed(
            from_borders(start.reshape(shape), stop.reshape(shape), axis, by_sample),
            axis,
        )
        for start, stop in _two_parts(low, high, width, axis, sample)
    ]
    return list(dict.fromkeys(each for each in cells if each is not None))


def _each(
    claim: Coordinates,
    dims: Sequence[int],
    axis: Axis,
    places: Tensor | None,
    samples: Coordinates | None,
) -> list[Coordinates] | None:
    """The coordinates of sums of elements with gaps between them: windows, or each of few cells.

    Args:
        claim: The coordinates of the elements.
        dims: The dimensions along which they were mixed.
        axis: The axis that they are on.
        places: A number for the place of each element on all axes on which the elements are
            scattered; None if this is the only one.
        samples: The samples of the elements; None if they are unknown.

    Returns:
        None if neither describes them.
    """
    if places is not None:
        claim = Coordinates(claim.index.expand(places.shape), claim.cells, claim.by_sample)
    low, high, shape = _in_sums(claim, dims)
    numbers = _along_last(claim.index, claim, dims)
    places_in_sums = numbers if places is None else _along_last(places, claim, dims)
    few = _of_slices(claim, numbers, places_in_sums, shape)
    if few is None:
        summands = _summands(claim, numbers, shape)
        few = few_cells(summands, places=places_in_sums.flatten())
    if few is not None and places is not None:
        return few
    start, stop = (border.reshape(shape) for border in across_ends(low, high, axis))
    hull = from_borders(start, stop, axis, claim.by_sample)
    windows = narrowed(hull, axis)
    if windows is not None and windows is not hull:  # as of a dilated convolution
        return None if few is not None and len(few) == 2 else [windows]
    return None if few is None else list(merged(few, axis, samples))


def _own(
    pairs: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int]
) -> list[Coordinates | None]:
    """The coordinates of sums of neighbors, as in a graph; see :func:`own_cells`."""
    axes, claims = zip(*pairs, strict=True)
    index = torch.broadcast_tensors(*[claim.index for claim in claims])  # type: ignore[no-untyped-call]
    shape = [1 if dim in dims else size for dim, size in enumerate(index[0].shape)]
    summands = []
    for own, claim in zip(index, claims, strict=True):
        numbers = _along_last(own, Coordinates(own, claim.cells), dims)
        summands.append(_summands(claim, numbers, shape))
    return own_cells(summands, axes)


def _summands(claim: Coordinates, numbers: Tensor, shape: Sequence[int]) -> Summands:
    """The summands of sums of this shape, from the numbers of their cells, ``(..., summands)``."""
    sums = torch.arange(math.prod(shape), device="cpu").repeat_interleave(numbers.shape[-1])
    return Summands(Coordinates(numbers.flatten(), claim.cells, claim.by_sample), sums, shape)


def _of_slices(
    claim: Coordinates, numbers: Tensor, places: Tensor, shape: Sequence[int]
) -> list[Coordinates] | None:
    """The coordinates of each distinct slice along the last dimension, which is summed over.

    A sum of up to ``MOST_CLAIMS`` tensors has the claims of these, also if they were stacked.

    Args:
        claim: The coordinates of the summands.
        numbers: The numbers of their cells, ``(..., summands)``.
        places: A number for the place of each summand; the same shape.
        shape: The shape of the sums.

    Returns:
        None if there are more slices.
    """
    slices = places.reshape(-1, places.shape[-1])
    _, which = slices.unique(dim=1, return_inverse=True)  # type: ignore[no-untyped-call]
    first = first_of_each(which)[0].sort().values
    if len(first) > MOST_CLAIMS:
        return None
    found = (claim.moved(numbers[..., each].reshape(shape)) for each in first)
    return [each for each in found if each is not None]


def _two_parts(
    low: Tensor, high: Tensor, width: float, axis: Axis, sample: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """The borders of two cells that hold all cells along the last dimension; equal for no gap.

    ``low`` and ``high`` are those of ``in_order``, and ``width`` is that of the smallest cell. If
    ``sample``, the sample of each sum, is given, samples with scattered sums have no cells.
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
    if sample is not None:
        sample = sample.expand_as(scattered)
        scattered = torch.isin(sample, sample[scattered])
    if axis.is_spatial and bool(scattered.any() if sample is None else scattered.all()):
        raise ScatteredError
    start, stop = start.where(~everywhere, -0.5), stop.where(~everywhere, axis.extent - 0.5)
    if axis.is_spatial:
        start, apart = start.masked_fill(scattered, torch.inf), apart & ~scattered
    end, begin = around_largest_gap(low, high)
    return [(start, torch.where(apart, end, stop)), (torch.where(apart, begin, start), stop)]
