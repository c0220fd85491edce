"""Coordinates after elements were mixed along dimensions, as by a sum or a matrix product."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import (
    SLACK,
    are_all_pixels,
    around_largest_gap,
    gaps_between,
    hull_of,
    sorted_cells,
)
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    SAMPLES,
    Axis,
    Coordinates,
    first_of_each,
    from_borders,
)
from captum_tgrad.decomposition.places.graph_nodes import cells_of_nodes
from captum_tgrad.decomposition.places.merging import merged
from captum_tgrad.decomposition.places.subsampling import widened
from captum_tgrad.decomposition.places.sums_by_index import Summands, few_cells, stacked_coordinates
from captum_tgrad.decomposition.places.windows import narrowed


class ScatteredError(RuntimeError):
    """The mixed elements are scattered over an axis, so that no cell describes them."""


def mixed(coords: Coordinates, dims: Iterable[int], axis: Axis) -> list[Coordinates]:
    """As :func:`mixed_on_axes`, for coordinates on one axis."""
    return [part for _, part in mixed_on_axes([(axis, coords)], dims)]


@torch.no_grad()
def mixed_on_axes(
    coordinates: Iterable[tuple[Axis, Coordinates]],
    dims: Iterable[int],
    placed: Container[Axis] = (),
) -> list[tuple[Axis, Coordinates]]:
    """The coordinates after elements along ``dims`` were mixed; these dimensions keep size 1.

    Each new element has the cells of the elements that were mixed. If these are many, it has the
    smallest cell that holds all of them, or two such cells, as at the seam of a rolled image.

    Args:
        coordinates: The coordinates, with their axes.
        dims: The dimensions along which elements were mixed.
        placed: The axes on which the new elements have other coordinates, as those of queries.
            Mixed elements, as keys, then have none if they are scattered, or one cell for all.

    Raises:
        ScatteredError: Gaps between the elements take up most of the smallest cell.
    """
    coordinates, dims = list(coordinates), list(dims)
    several = _on_only_axis(coordinates, dims, placed)
    if len(several) < 2:
        return _mixed_apart(coordinates, dims, placed)
    # An additional dimension holds the coordinates of each element, which are mixed together.
    only = several[0][0]
    together = stacked_coordinates(
        [_widened_unless_few(coords, dims, only) for _, coords in several]
    )
    others = [
        (axis, Coordinates(coords.index.unsqueeze(-1), coords.cells, coords.by_sample))
        for axis, coords in coordinates
        if axis != only
    ]
    dims.append(together.index.dim() - 1)
    return [
        (axis, Coordinates(part.index.squeeze(-1), part.cells, part.by_sample))
        for axis, part in _mixed_apart([*others, (only, together)], dims, placed)
    ]


def _on_only_axis(
    coordinates: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int], placed: Container[Axis]
) -> list[tuple[Axis, Coordinates]]:
    """The coordinates on the only axis of positions, if they change along the same mixed dims."""
    own = [(axis, coords) for axis, coords in dict.fromkeys(coordinates) if axis.is_spatial]
    along = {frozenset(dims).intersection(coords.dims) for _, coords in own}
    is_one = len({axis for axis, _ in own}) == len(along) == 1 and own[0][0] not in placed
    return own if is_one and all(along) else []


def _mixed_apart(
    coordinates: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int], placed: Container[Axis]
) -> list[tuple[Axis, Coordinates]]:
    """As :func:`mixed_on_axes`, with all coordinates mixed on their own."""
    whole = [(axis, _widened_unless_few(coords, dims, axis)) for axis, coords in coordinates]
    of_samples = [coords for axis, coords in whole if axis.input == SAMPLES]
    samples = of_samples[0] if len(of_samples) == 1 else None
    scattered = _scattered(whole, dims)
    on_several = len(scattered) > 1 and len({axis for axis, _ in scattered}) == len(scattered)
    place_ids = _place_ids([coords for _, coords in scattered]) if on_several else None
    of_scattered = {
        (axis, coords): _windows_or_few_cells(coords, dims, axis, place_ids, samples)
        for axis, coords in scattered
    }
    if scattered and all(parts is None for parts in of_scattered.values()):
        own = _nodes(scattered, dims)
        of_scattered = {
            pair: None if each is None else [each]
            for pair, each in zip(scattered, own, strict=True)
        }
    found: list[tuple[Axis, list[Coordinates]]] = []
    parted = []
    for axis, coords in whole:
        parts = of_scattered.get((axis, coords))
        if parts is None:
            try:
                parts = _hulls(coords, dims, axis, samples)
            except ScatteredError:
                if axis not in placed:
                    raise
                parts = []
            if axis in placed and axis.is_spatial and set(dims) & set(coords.dims):
                parts = [part for part in parts if part.dims]
            if (axis, coords) in of_scattered and len(parts) == 2:
                parted.append(parts)
        found.append((axis, parts))
    if on_several and len(parted) == 2:
        rows, columns = parted  # a window at the seams of both has four parts
        rows[:], columns[:] = [each for each in rows for _ in columns], columns * 2
    return [(axis, part) for axis, parts in found for part in parts]


def _scattered(
    coordinates: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int]
) -> list[tuple[Axis, Coordinates]]:
    """The coordinates of positions that change along ``dims``, if mixed elements have gaps."""
    changing = [
        (axis, coords)
        for axis, coords in coordinates
        if axis.is_spatial and set(dims) & set(coords.dims)
    ]
    return changing if any(_is_scattered(coords, dims) for _, coords in changing) else []


def _place_ids(coordinates: Sequence[Coordinates]) -> Tensor:
    """A number for each element that is equal for elements with the same cells on all axes."""
    numbers = torch.zeros((), dtype=torch.long, device="cpu")
    for coords in coordinates:
        numbers = numbers * (len(coords.cells) + 1) + coords.index
    return numbers


def _widened_unless_few(coords: Coordinates, dims: Sequence[int], axis: Axis) -> Coordinates:
    """Widens the cells of a subsampled grid that is mixed along ``dims``, unless it is small."""
    is_mixed = any(dim in coords.dims for dim in dims)
    return widened(coords, axis) if is_mixed and len(coords.cells) > MOST_COORDINATES else coords


def _is_scattered(coords: Coordinates, dims: Sequence[int]) -> bool:
    """Whether there are gaps between mixed elements, as wide as the smallest cell."""
    low, high, _ = _sorted_borders(coords, dims)
    width = float(coords.cells[:, 1].min())
    return bool((gaps_between(low, high) > width * (1 - SLACK)).any())


def _sorted_borders(coords: Coordinates, dims: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
    """The sorted borders of the cells that are mixed, and the shape of the sums."""
    low, high = sorted_cells(*(_along_last(border, coords, dims) for border in coords.borders()))
    return low, high, [1 if dim in dims else size for dim, size in enumerate(coords.index.shape)]


def _along_last(values: Tensor, coords: Coordinates, dims: Sequence[int]) -> Tensor:
    """Moves the dimensions along which coordinates are mixed to the end, and joins them."""
    over = [dim for dim in dims if dim in coords.dims]
    return values.movedim(over, list(range(-len(over), 0))).flatten(-len(over))


def _hulls(
    coords: Coordinates, dims: Sequence[int], axis: Axis, samples: Coordinates | None
) -> list[Coordinates]:
    """The smallest cells that hold all elements that were mixed, one or two for each sum."""
    if not set(dims) & set(coords.dims):
        return [coords]
    is_one = set(coords.dims) <= set(dims) and axis.input != SAMPLES
    if is_one and are_all_pixels(coords.cells, axis.extent):
        return []
    low, high, shape = _sorted_borders(coords, dims)
    width = float(coords.cells[:, 1].min())
    sample = None
    if samples is not None and samples.dims and set(samples.dims) <= set(coords.dims) - set(dims):
        sample = _along_last(samples.index, coords, dims)[..., 0]
    by_sample = coords.by_sample or sample is not None
    cells = [
        narrowed(
            from_borders(start.reshape(shape), stop.reshape(shape), axis, by_sample),
            axis,
        )
        for start, stop in _one_or_two_cells(low, high, width, axis, sample)
    ]
    return list(dict.fromkeys(each for each in cells if each is not None))


def _windows_or_few_cells(
    coords: Coordinates,
    dims: Sequence[int],
    axis: Axis,
    place_ids: Tensor | None,
    samples: Coordinates | None,
) -> list[Coordinates] | None:
    """The coordinates of sums of elements with gaps between them: windows, or each of few cells.

    Args:
        coords: The coordinates of the elements.
        dims: The dimensions along which they were mixed.
        axis: The axis that they are on.
        place_ids: A number for the place of each element on all axes on which the elements are
            scattered; None if this is the only one.
        samples: The samples of the elements; None if they are unknown.

    Returns:
        None if neither describes them.
    """
    if place_ids is not None:
        coords = Coordinates(coords.index.expand(place_ids.shape), coords.cells, coords.by_sample)
    low, high, shape = _sorted_borders(coords, dims)
    numbers = _along_last(coords.index, coords, dims)
    places_in_sums = numbers if place_ids is None else _along_last(place_ids, coords, dims)
    few = _distinct_slices(coords, numbers, places_in_sums, shape)
    if few is None:
        summands = _summands(coords, numbers, shape)
        few = few_cells(summands, place_ids=places_in_sums.flatten())
    if few is not None and place_ids is not None:
        return few
    start, stop = (border.reshape(shape) for border in hull_of(low, high, axis.extent))
    hull = from_borders(start, stop, axis, coords.by_sample)
    windows = narrowed(hull, axis)
    if windows is not None and windows is not hull:  # as of a dilated convolution
        return None if few is not None and len(few) == 2 else [windows]
    return None if few is None else list(merged(few, axis, samples))


def _nodes(
    pairs: Sequence[tuple[Axis, Coordinates]], dims: Sequence[int]
) -> list[Coordinates | None]:
    """The coordinates of sums of neighbors, as in a graph; see :func:`cells_of_nodes`."""
    axes, coordinates = zip(*pairs, strict=True)
    index = torch.broadcast_tensors(*[coords.index for coords in coordinates])  # type: ignore[no-untyped-call]
    shape = [1 if dim in dims else size for dim, size in enumerate(index[0].shape)]
    summands = []
    for own, coords in zip(index, coordinates, strict=True):
        numbers = _along_last(own, Coordinates(own, coords.cells), dims)
        summands.append(_summands(coords, numbers, shape))
    return cells_of_nodes(summands, axes)


def _summands(coords: Coordinates, numbers: Tensor, shape: Sequence[int]) -> Summands:
    """The summands of sums of this shape, from the numbers of their cells, ``(..., summands)``."""
    sums = torch.arange(math.prod(shape), device="cpu").repeat_interleave(numbers.shape[-1])
    return Summands(Coordinates(numbers.flatten(), coords.cells, coords.by_sample), sums, shape)


def _distinct_slices(
    coords: Coordinates, numbers: Tensor, place_ids: Tensor, shape: Sequence[int]
) -> list[Coordinates] | None:
    """The coordinates of each distinct slice along the last dimension, which is summed over.

    A sum of up to ``MOST_COORDINATES`` tensors has all their coordinates, also if they were
    stacked.

    Args:
        coords: The coordinates of the summands.
        numbers: The numbers of their cells, ``(..., summands)``.
        place_ids: A number for the place of each summand; the same shape.
        shape: The shape of the sums.

    Returns:
        None if there are more slices.
    """
    slices = place_ids.reshape(-1, place_ids.shape[-1])
    _, which = slices.unique(dim=1, return_inverse=True)  # type: ignore[no-untyped-call]
    first = first_of_each(which)[0].sort().values
    if len(first) > MOST_COORDINATES:
        return None
    found = (coords.moved(numbers[..., each].reshape(shape)) for each in first)
    return [each for each in found if each is not None]


def _one_or_two_cells(
    low: Tensor, high: Tensor, width: float, axis: Axis, sample: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """The borders of two cells that hold all cells along the last dimension; equal for no gap.

    ``low`` and ``high`` are sorted, and ``width`` is that of the smallest cell. If ``sample``, the
    sample of each sum, is given, samples with scattered sums have no cells.
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
