"""Gaps: constants among the elements of a tensor, which have no cell, as padding around a crop.

Elements that replace them later, as when the parts of an image are put together, bring their own
cells. Before other operations, constants that replace pixels get the cells of these pixels.
"""

from __future__ import annotations

import torch

from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.cells import SLACK
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.places import Places


def gaps_filled(places: Places) -> Places:
    """Gives constants that replace pixels the cells of these pixels; see :func:`filled_along`."""
    if not places.has_gaps:
        return places
    return _cache.get_or(places, lambda: _gaps_filled_in(places))


_cache: BoundedCache[Places] = BoundedCache(lambda places: places.numbers)


def _gaps_filled_in(places: Places) -> Places:
    of_samples = {dim for coords in places.samples for dim in coords.dims}

    def whole(axis: Axis, coords: Coordinates) -> Coordinates:
        dims = [dim for dim in coords.dims if dim not in of_samples]
        is_one = len(dims) == 1 and len(places.coordinates[axis]) == 1
        return filled_along(coords, dims[0], axis) if is_one else coords

    return places.mapped(whole)


def gaps_kept(places: Places, filled: Places) -> Places:
    """The places of elements that were moved, with gaps if these can still be filled in later.

    ``filled`` are the places after the elements were moved with gaps filled in.
    """
    return places if gaps_filled(places) is gaps_filled(filled) else filled


@torch.no_grad()
def filled_along(coords: Coordinates, dim: int, axis: Axis) -> Coordinates:
    """Gives constants along ``dim`` the cells of the pixels that they replace.

    Of four columns, a crop of columns 1 and 2 that is padded with zeros to its old position gets
    the cells of columns 0 to 3, as if the image were masked. If the result is larger, the cells of
    the others are outside of the image, as those of padding. If it does not cover the image, only
    constants between pixels replace others.
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
    position = torch.arange(index.shape[-1], device="cpu")
    line = middle.gather(-1, first) + step * (position - first)
    half, gap = own / 2, step.abs() - own
    is_line = ((line - middle).abs() < SLACK) & ((width - own).abs() < SLACK)
    # Of a strided grid, the gaps are within the image as well.
    before, after = (line - half) + 0.5, axis.extent - 0.5 - (line + half)
    ends = torch.maximum(before.amin(-1, keepdim=True), after.amin(-1, keepdim=True))
    is_whole = ends < gap + SLACK
    is_between = (position > first) & (position < last)
    is_grid = (gap > -SLACK) & (is_line | ~known).all(-1, keepdim=True)
    filled = ~known & is_grid & (is_between | is_whole)
    if not bool(filled.any()):
        return coords
    low, high = torch.where(filled, line - half, low), torch.where(filled, line + half, high)
    found = from_borders(low.movedim(-1, dim), high.movedim(-1, dim), axis, coords.by_sample)
    return found or coords
