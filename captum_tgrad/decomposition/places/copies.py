"""Adjacent copies of an element: they share its cell, or divide it as a finer grid does.

They may be channels or heads, which share the cell, or the result of nearest neighbor upsampling.
They share it until an operation works on the whole grid. When elements are moved, both variants are
moved, and the one that is still needed is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import are_nested
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.places import Pair, Places, make_places
from captum_tgrad.decomposition.places.subsampling import widened
from captum_tgrad.decomposition.places.windows import narrowed


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


def with_copies_refined(places: Places) -> Places:
    """Applies :func:`copies_refined` to a tensor that has a dimension of channels.

    Without one, tokens were flattened together with their channels, and copies are channels.
    """
    coordinates = list(places.pairs)
    known = {dim for axis, coords in coordinates if axis.is_place for dim in coords.dims}
    if known.issuperset(range(1, len(places.shape))):
        return places
    refined = copies_refined(coordinates)
    if refined == coordinates:
        return places
    return make_places(places.shape, refined)


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
    return make_places(whole.shape, kept)


@torch.no_grad()
def _refined(coords: Coordinates, axis: Axis, zeros_too: bool) -> Coordinates | None:
    """Divides each cell among its copies along the only dimension of the coordinates.

    All cells need the same number of copies, except at both ends, where some may be cropped.
    """
    if axis.input == SAMPLES or len(coords.cells) == coords.index.numel():  # no copies
        return coords
    whole = narrowed(coords, axis)
    if are_nested(whole.cells):  # of a cumulative sum: the cells are no grid
        return coords
    index = (_zeros_as_copies(whole) if zeros_too else whole.index).flatten()
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
    cells = widened(whole, axis).cells
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
        return coords.index  # not adjacent: ``filled_along`` handles pixels at their own position
    pitch = int(steps[0])
    # Padding may surround them. Without it, the zeros may also be before the elements.
    start = 0 if pitch * len(image) == len(index) else int(image[0])
    copies = index[image].repeat_interleave(pitch)[: len(index) - start]
    return torch.cat([index.new_zeros(start), copies, index[start + len(copies) :]])
