"""The cells of sums: those of the elements if these are few, else the smallest cell of all.

A sum of up to four elements has coordinates for each of them. A sum of more has the smallest cell
that holds all of them, or two such cells, as at the seam of a rolled image. It has none if gaps
between the elements take up most of this cell. There are two exceptions: overlapping windows, as of
a convolution, become adjacent cells (``windows``), and neighbors in a graph do not change the
position of a node (``graph_nodes``). Elements may have several places; coordinates on several axes
that belong to one place stay together.

:func:`cells_of_sums` applies this to any sums, described by the number of the sum to which each
element belongs. :func:`mixed_on_axes` describes sums along dimensions in this way, and rules of
operations describe sums by index and products with a constant matrix that selects elements.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    SAMPLES,
    Axis,
    Coordinates,
    OnAxis,
    compacted,
    first_of_each,
    on_common_cells,
    whole_cell,
)
from captum_tgrad.decomposition.places.graph_nodes import cells_of_nodes
from captum_tgrad.decomposition.places.spans import (
    Span,
    Sums,
    hulls_of,
    span_of,
    unless_wide,
    windows_of,
)
from captum_tgrad.decomposition.places.subsampling import widened


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
            Mixed elements, as keys, then have none if they are scattered, or one cell for all.

    Raises:
        ScatteredError: Gaps between the elements take up most of the smallest cell.
    """
    coordinates, dims = list(coordinates), set(dims)
    kept: list[OnAxis] = []
    mixing: list[OnAxis] = []
    for group in by_place(coordinates):
        is_kept = all(dims.isdisjoint(coords.dims) for _, coords in group)
        (kept if is_kept else mixing).extend(group)
    if not mixing:
        return kept
    sizes = zip(*(coords.index.shape for _, coords in mixing), strict=True)
    whole = [max(each) for each in sizes]
    shape = [1 if dim in dims else size for dim, size in enumerate(whole)]
    within = [size if dim in dims else 1 for dim, size in enumerate(whole)]
    number, slot = (torch.arange(math.prod(s), device="cpu").reshape(s) for s in (shape, within))
    samples = {coords for axis, coords in kept if axis.input == SAMPLES}
    of_each = samples.pop() if len(samples) == 1 else None
    return kept + cells_of_sums(mixing, Sums(number, shape, slot), of_each, placed)


@torch.no_grad()
def cells_of_sums(
    coordinates: Sequence[OnAxis],
    sums: Sums,
    samples: Coordinates | None,
    placed: Container[Axis] = (),
) -> list[OnAxis]:
    """The coordinates of sums of elements.

    Args:
        coordinates: The coordinates of the elements, which broadcast to ``sums.number``.
        sums: The sum to which each element belongs.
        samples: The samples of the elements; None if they are unknown, or if a sum has elements of
            several samples.
        placed: As for :func:`mixed_on_axes`.

    Raises:
        ScatteredError: Sums along dimensions are scattered over another axis.
    """
    if samples is not None:
        at, sample = torch.broadcast_tensors(sums.number, samples.index)  # type: ignore[no-untyped-call]
        sample = sums.reduce(sample.flatten(), at.flatten(), "amax", 0)
        samples = compacted(sample, samples.cells)
    others = [pair for pair in coordinates if not pair[0].is_spatial]
    found = [pair for each in others for pair in _cells_of([each], sums, samples, placed)]
    places = several_places(coordinates)
    if places is not None:
        return found + _cells_of_several(places, sums, samples, placed)
    spatial = list(dict.fromkeys(pair for pair in coordinates if pair[0].is_spatial))
    is_one_place = len({axis for axis, _ in spatial}) == len(spatial)
    for group in [spatial] if is_one_place else [[pair] for pair in spatial]:
        found += _cells_of(group, sums, samples, placed)
    return found


def by_place(coordinates: Sequence[OnAxis]) -> list[list[OnAxis]]:
    """Those of each of several places together, and all other coordinates alone."""
    places = several_places(coordinates)
    alone = [[pair] for pair in coordinates if places is None or not pair[0].is_spatial]
    return alone + (places or [])


def several_places(coordinates: Iterable[OnAxis]) -> list[list[OnAxis]] | None:
    """The places of elements that have several on one input; None for others."""
    by_axis: dict[Axis, list[Coordinates]] = {}
    for axis, coords in coordinates:
        if axis.is_spatial:
            by_axis.setdefault(axis, []).append(coords)
    if len({(axis.input, len(own)) for axis, own in by_axis.items()}) != 1:
        return None
    places = dict.fromkeys(zip(*by_axis.values(), strict=True))
    return [list(zip(by_axis, each, strict=True)) for each in places] if len(places) > 1 else None


def _cells_of_several(
    places: Sequence[Sequence[OnAxis]],
    sums: Sums,
    samples: Coordinates | None,
    placed: Container[Axis],
) -> list[OnAxis]:
    """As :func:`cells_of_sums`, for elements at several places.

    If these are few together, a sum has all of them. Else the first places of all its elements have
    one cell, the second ones another, and so on. The sum of a row of an image plus its transposed
    image has a row and a column. A sum whose elements cover all pixels has no place.
    """
    on_axes = [list(each) for each in zip(*places, strict=True)]
    stacked = [(own[0][0], _stacked([coords for _, coords in own])) for own in on_axes]
    slot, count = sums.slot, len(places)
    if slot is not None:
        slot = slot.unsqueeze(-1) * count + torch.arange(count, device="cpu")
    each = Sums(sums.number.unsqueeze(-1), sums.shape, slot)
    spans = [span_of(coords, each) for _, coords in stacked]
    few = [own for own in _nodes_windows_or_few(stacked, spans, each) or () if own]
    if len(few) == len(stacked):
        return [(axis, part) for (axis, _), own in zip(stacked, few, strict=True) for part in own]
    everywhere = _are_everywhere(stacked, each)
    found: list[OnAxis] = []
    for place in places:
        by_axis: dict[Axis, list[Coordinates]] = {axis: [] for axis, _ in place}
        for axis, part in _cells_of(place, sums, samples, placed):
            left = part.moved(part.index.where(~everywhere, 0)) if everywhere.any() else part
            by_axis[axis] += [] if left is None else [left]
        most = max(map(len, by_axis.values()))
        for axis, own in by_axis.items() if most else ():
            own = own or [whole_cell(len(sums.shape), axis)]
            found += [(axis, part) for part in (own * most if len(own) == 1 else own)]
    return found


def _are_everywhere(place: Sequence[OnAxis], sums: Sums) -> Tensor:
    """Whether the cells of the elements of each sum cover all axes, so that it has no place."""
    at, cell, sizes = _numbered([coords for _, coords in place], sums)
    every = math.prod(sizes)
    pairs = (at * every + cell).unique()  # type: ignore[no-untyped-call]
    at, area = pairs // every, torch.ones((), dtype=torch.float64, device="cpu")
    of_axes = torch.unravel_index(pairs % every, sizes)
    for (axis, coords), number in zip(place, of_axes, strict=True):
        widths = widened(coords, axis).cells[:, 1]
        area = area * torch.cat([widths.new_zeros(1), widths])[number] / axis.extent
    return sums.reduce(area, at, "sum", 0) > 1 - SLACK


def _stacked(coordinates: Sequence[Coordinates]) -> Coordinates:
    """Stacks coordinates along an additional last dimension."""
    cells, indices = on_common_cells(coordinates)
    index = torch.stack(torch.broadcast_tensors(*indices), -1)  # type: ignore[no-untyped-call]
    return Coordinates(index, cells, any(coords.by_sample for coords in coordinates))


def _cells_of(
    place: Sequence[OnAxis], sums: Sums, samples: Coordinates | None, placed: Container[Axis]
) -> list[OnAxis]:
    """As :func:`cells_of_sums`, for one place of each element, on one axis or several."""
    place = [  # of a subsampled grid, unless it is small
        (axis, widened(coords, axis) if len(coords.cells) > MOST_COORDINATES else coords)
        for axis, coords in place
    ]
    spans = [span_of(coords, sums) for _, coords in place]
    few = _nodes_windows_or_few(place, spans, sums) if place and place[0][0].is_spatial else None
    parts: list[list[Coordinates]] = []
    parted = []
    for n, ((axis, _), span) in enumerate(zip(place, spans, strict=True)):
        own = few[n] if few else None
        if own is None:
            own = hulls_of(span, axis, samples, sums, axis.is_spatial and axis in placed)
            if len(own) == 2:
                parted.append(own)
        parts.append(own if sums.slot is not None else unless_wide(own, span, axis, samples))
    if len(parted) == 2:  # a window at the seams of both axes has four parts
        rows, columns = parted
        rows[:], columns[:] = [each for each in rows for _ in columns], columns * 2
    return [(axis, part) for (axis, _), own in zip(place, parts, strict=True) for part in own]


def _nodes_windows_or_few(
    place: Sequence[OnAxis], spans: Sequence[Span], sums: Sums
) -> Sequence[list[Coordinates] | None] | None:
    """Cells of nodes in a graph, of windows, or of few elements, on each axis; None for others."""
    has_gaps, in_order = any(span.has_gaps for span in spans), sums.slot is not None
    found = _windows_or_few(place, spans, sums) if has_gaps and in_order else None
    if found is None and (has_gaps or not in_order):
        nodes = cells_of_nodes(place, sums.number, sums.shape)
        found = None if nodes is None else [[node] for node in nodes]
    if found is None and has_gaps and not in_order:
        found = _windows_or_few(place, spans, sums)
    return found


def _windows_or_few(
    place: Sequence[OnAxis], spans: Sequence[Span], sums: Sums
) -> Sequence[list[Coordinates] | None] | None:
    few = _few([coords for _, coords in place], sums)
    if few is not None and (len(place) > 1 or len(few[0]) < 3):
        return few
    windows = [windows_of(span, axis) for (axis, _), span in zip(place, spans, strict=True)]
    if any(windows):
        return [None if each is None else [each] for each in windows]
    return few


def windows_of_sum(coordinates: Sequence[Coordinates], axis: Axis) -> Coordinates | None:
    """The windows of a sum of tensors with these coordinates; None if they do not overlap."""
    every = _stacked(coordinates)
    shape = every.index.shape[:-1]
    number = torch.arange(math.prod(shape), device="cpu").reshape(*shape, 1)
    return windows_of(span_of(every, Sums(number, shape)), axis)


def _few(coordinates: Sequence[Coordinates], sums: Sums) -> list[list[Coordinates]] | None:
    """The coordinates of each element of a sum; None if these are more than the most.

    A sum of stacked tensors has those of each distinct tensor. Other sums have the distinct cells
    of their elements, in order, and repeat these if they are fewer than those of another sum.

    Args:
        coordinates: The coordinates of the elements on each axis.
        sums: The sum to which each element belongs.
    """
    at, place, sizes = _numbered(coordinates, sums)
    size, rows = math.prod(sums.shape), None
    if sums.slot is not None:
        slot = sums.slot[tuple(map(slice, at.shape))]
        _, slot = slot.unique(return_inverse=True)  # type: ignore[no-untyped-call]
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


def _numbered(coordinates: Sequence[Coordinates], sums: Sums) -> tuple[Tensor, Tensor, list[int]]:
    """The sum of each element, and the number of its cell, counted over all axes.

    The sizes that are returned as well are those with which ``torch.unravel_index`` finds the
    number on each axis.
    """
    at, *numbers = torch.broadcast_tensors(sums.number, *(c.index for c in coordinates))  # type: ignore[no-untyped-call]
    sizes = [len(coords.cells) + 1 for coords in coordinates]
    cell = torch.zeros_like(at)
    for number, size in zip(numbers, sizes, strict=True):
        cell = cell * size + number
    return at, cell, sizes
