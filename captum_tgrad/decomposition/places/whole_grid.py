"""Adapts cells for operations that work on a whole grid, as a convolution does.

Elements of ``x[::2]`` or of a crop keep the cells of their pixels, and copies of an element keep
its cell, so that later operations can join parts or take them apart. Before a convolution, strided
elements get wider cells, adjacent copies get parts of their cell, and constants around a crop get
the cells of the pixels that they replace.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.cells import SLACK, evenly_wide
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    from_borders,
    interned,
)
from captum_tgrad.decomposition.places.places import Pair, Places, places
from captum_tgrad.decomposition.places.windows import across_ends, in_order, narrowed


def on_whole_grid(given: Places) -> Places:
    """The places of a tensor for an operation that works on its whole grid."""
    return constants_filled_in(with_copies_refined(windows_joined(given)))


def windows_joined(given: Places) -> Places:
    """Merges three or more coordinates at equal distances into windows.

    The sum of an image and its shifted copies then has the places of a dilated convolution.
    """
    if all(len(coordinates) < 3 for coordinates in given.coordinates.values()):
        return given
    joined = [
        (axis, coords)
        for axis, coordinates in given.coordinates.items()
        for coords in _joined_in_windows(coordinates, axis)
    ]
    return places(given.shape, joined)


def _joined_in_windows(coordinates: tuple[Coordinates, ...], axis: Axis) -> tuple[Coordinates, ...]:
    if (
        len(coordinates) < 3
        or not axis.is_spatial
        or len({coords.dims for coords in coordinates}) > 1
    ):
        return coordinates
    lows, highs = zip(*(coords.borders() for coords in coordinates), strict=True)
    cells = in_order(torch.stack(lows, -1), torch.stack(highs, -1))
    hull = from_borders(*across_ends(*cells, axis), axis)
    windows = narrowed(hull, axis)
    return coordinates if windows is None or windows is hull else (windows,)


def constants_filled_in(given: Places) -> Places:
    """Gives constants that replace pixels the cells of these pixels; see :func:`filled_in`."""
    if not given.has_gaps:
        return given
    return _filled_in.get_or(given, lambda: _constants_filled_in(given))


_filled_in: BoundedCache[Places] = BoundedCache(lambda given: given.numbers)


def _constants_filled_in(given: Places) -> Places:
    of_samples = {dim for coords in given.samples for dim in coords.dims}

    def whole(axis: Axis, coords: Coordinates) -> Coordinates:
        dims = [dim for dim in coords.dims if dim not in of_samples]
        is_one = len(dims) == 1 and len(given.coordinates[axis]) == 1
        return filled_in(coords, dims[0], axis) if is_one else coords

    return places(given.shape, [(axis, whole(axis, coords)) for axis, coords in given.pairs])


def gaps_kept(given: Places, filled: Places) -> Places:
    """The places of elements that were moved, with gaps if these can still be filled in later.

    ``filled`` are the places after the elements were moved with gaps filled in.
    """
    return given if constants_filled_in(given) is constants_filled_in(filled) else filled


def copies_refined(
    coordinates: Iterable[Pair], *, zeros_too: bool = True, first: int = 1
) -> list[Pair]:
    """Divides the cell of adjacent copies among them, unless other coordinates tell them apart.

    Columns 1, 1, 2, 2 become four cells of half the width. The first dimension is left out, because
    it may hold tokens and heads together with samples, even in a batch of one.

    Args:
        coordinates: The coordinates of a tensor.
        zeros_too: Whether zeros between elements count as copies.
        first: The first dimension that is not left out.
    """
    coordinates = list(coordinates)
    varying = [dim for _, coords in dict.fromkeys(coordinates) if coords for dim in coords.dims]
    alone = {dim for dim in varying if dim >= first and varying.count(dim) == 1}
    return [
        (axis, _refined(coords, axis, zeros_too))
        if coords and len(coords.dims) == 1 and coords.dims[0] in alone
        else (axis, coords)
        for axis, coords in coordinates
    ]


def with_copies_refined(given: Places) -> Places:
    """Applies :func:`copies_refined` to a tensor that has a dimension of channels.

    Without one, tokens were flattened together with their channels, and copies are channels.
    """
    coordinates = list(given.pairs)
    known = {dim for axis, coords in coordinates if axis.is_place for dim in coords.dims}
    refined = (
        coordinates if known.issuperset(range(1, len(given.shape))) else copies_refined(coordinates)
    )
    return given if refined == coordinates else places(given.shape, refined)


def copies_kept(whole: Places, refined: Places) -> Places:
    """The places of elements that were moved: for each of the coordinates, whole or refined cells.

    Cells stay whole if the copies can still be refined later, also after a move from the first
    dimension, or if parts of one cell were moved to different dimensions: these were channels of
    one element.
    """
    pairs, parts = list(whole.pairs), list(refined.pairs)
    if whole is refined or [axis for axis, _ in pairs] != [axis for axis, _ in parts]:
        return refined
    kept: list[Pair] = []
    for (axis, coords), (_, later), (_, part) in zip(
        pairs, copies_refined(pairs, first=0), parts, strict=True
    ):
        are_apart = len(coords.dims) < len(part.dims)
        kept.append((axis, coords if are_apart or later is not coords else part))
    return places(whole.shape, kept)


@torch.no_grad()
def _refined(coords: Coordinates, axis: Axis, zeros_too: bool) -> Coordinates | None:
    """Divides each cell among its copies along the only dimension of the coordinates.

    All cells need the same number of copies, except at both ends, where some may be cropped.
    """
    if axis.input == SAMPLES or len(coords.cells) == coords.index.numel():  # no copies
        return coords
    index = (_zeros_as_copies(coords) if zeros_too else coords.index).flatten()
    own, run, counts = index.unique_consecutive(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    image = torch.nonzero(own).flatten()
    if len(image) < 2:
        return coords
    first, last = int(image[0]), int(image[-1])
    inner = counts[first + 1 : last] if last - first > 1 else counts[first : last + 1]
    times = int(inner[0])
    is_grid = len(image) == last - first + 1 and bool((inner == times).all())
    if times < 2 or not is_grid or int(counts[first : last + 1].max()) > times:
        return coords
    cells = widened(coords, axis).cells
    middles, widths = (each[(index - 1).clamp_min(0)] for each in cells.unbind(1))
    steps = cells[own[image] - 1, 0].diff()  # the median: rolled elements go back once
    sign = -1.0 if float(steps.median()) < 0 else 1.0
    start = counts.cumsum(0) - counts
    start[first] -= times - counts[first]  # if copies are missing, they are the first ones
    part = torch.arange(len(index), device="cpu") - start[run]
    center = middles + sign * widths * ((part + 0.5) / times - 0.5)
    half = widths / times / 2
    low, high = ((center + side * half).where(index > 0, -side * torch.inf) for side in (-1, 1))
    return from_borders(low.reshape(coords.index.shape), high.reshape(coords.index.shape), axis)


def _zeros_as_copies(coords: Coordinates) -> Tensor:
    """The index with inserted zeros replaced: 1, 0, 2, 0 becomes 1, 1, 2, 2.

    The tensor then has the places of a nearest neighbor enlargement that is masked.
    """
    index, (middle, width) = coords.index.flatten(), coords.cells.unbind(1)
    image = torch.nonzero(index).flatten()
    steps = image.diff()
    if len(image) < 2 or int(steps[0]) < 2 or not bool((steps == steps[0]).all()):
        return coords.index
    if not torch.allclose(middle.diff(), width[1:]):
        return coords.index  # not adjacent: ``filled_in`` handles pixels at their own position
    pitch = int(steps[0])
    # Padding may surround them. Without it, the zeros may also be before the elements.
    start = 0 if pitch * len(image) == len(index) else int(image[0])
    copies = index[image].repeat_interleave(pitch)[: len(index) - start]
    return torch.cat([index.new_zeros(start), copies, index[start + len(copies) :]])


@torch.no_grad()
def filled_in(coords: Coordinates, dim: int, axis: Axis) -> Coordinates:
    """Gives constants along ``dim`` the cells of the pixels that they replace.

    Of four columns, a crop of columns 1 and 2 that is padded with zeros to its old position gets
    the cells of columns 0 to 3, as if the image were masked.
    """
    if dim not in coords.dims or axis.input < 0 or coords.has_everywhere:
        return coords
    index = coords.index.movedim(dim, -1)
    low, high = (border.movedim(dim, -1) for border in coords.borders())
    known, middle, width = index > 0, (low + high) / 2, high - low
    first = known.long().argmax(-1, keepdim=True)
    last = index.shape[-1] - 1 - known.flip(-1).long().argmax(-1, keepdim=True)
    step = (middle.gather(-1, last) - middle.gather(-1, first)) / (last - first)
    own = width.gather(-1, first)
    step = torch.where(last > first, step, own)  # a single pixel
    line = middle.gather(-1, first) + step * (torch.arange(index.shape[-1], device="cpu") - first)
    half, gap = own / 2, step.abs() - own
    is_line = ((line - middle).abs() < SLACK) & ((width - own).abs() < SLACK)
    # Of a strided grid, the gaps are within the image as well.
    ends = (
        (line - half).amin(-1, keepdim=True) + 0.5,
        axis.extent - 0.5 - (line + half).amax(-1, keepdim=True),
    )
    is_whole = gap > -SLACK
    for end in ends:
        is_whole &= (end > -SLACK) & (end < gap + SLACK)
    filled = ~known & is_whole & (is_line | ~known).all(-1, keepdim=True)
    if not bool(filled.any()):
        return coords
    low, high = torch.where(filled, line - half, low), torch.where(filled, line + half, high)
    found = from_borders(low.movedim(-1, dim), high.movedim(-1, dim), axis, coords.by_sample)
    return found or coords


@torch.no_grad()
def widened(coords: Coordinates, axis: Axis) -> Coordinates:
    """Widens the cells of a subsampled grid to leave no gaps: every other row stands for two."""
    if axis.input == SAMPLES or not axis.is_place or not coords.may_be_subsampled:
        return coords
    cells = evenly_wide(coords.cells, axis.extent)
    return coords if cells is coords.cells else interned(coords.index, cells, by_sample=False)
