"""Merges the places of one element that agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of, in_steps
from captum_tgrad.decomposition.places.coordinates import (
    INPUTS,
    MOST_COORDINATES,
    ONE_CELL,
    SAMPLES,
    Axis,
    Coordinates,
    compacted,
    first_of_each,
    from_borders,
    of_each_sample,
    whole_cell,
)
from captum_tgrad.decomposition.places.subsampling import evenly_wide, widened
from captum_tgrad.decomposition.places.windows import narrowed

Place = tuple[Coordinates, ...]
"""The coordinates of elements on several axes that belong together."""


def merged(
    places: Iterable[Place],
    axes: Sequence[Axis],
    samples: Coordinates | None = None,
    *,
    of_several: bool = True,
) -> list[Place]:
    """Merges places that agree; those that contradict each other are all kept.

    Places that differ on several axes are merged if one of them is the finer one on all of these,
    or if there are too many. Else two opposite quadrants of an image would become the whole image.

    Args:
        places: The places, on all of ``axes``.
        axes: One axis, or several of one input.
        samples: The samples of the elements; None if they are unknown.
        of_several: Whether they are those of several tensors, whose elements are combined; else
            each element had all of them before.
    """
    places = list(dict.fromkeys(places))
    for on_several_axes in (False, True):
        kept: list[Place] = []
        for place in places:
            found, start, position = [place], len(kept), 0
            while found and position < len(kept):
                pair = kept[position], found[0]
                both = _merged_places(*pair, axes, samples, of_several, on_several_axes)
                position += 1
                if both is not None:  # the result may agree with the others
                    kept.remove(pair[0])
                    found, start, position = both, min(start, position - 1), 0
            kept[start:start] = found
        if len(kept) <= MOST_COORDINATES:
            break
    return list(dict.fromkeys(kept))


def _merged_places(
    one: Place,
    other: Place,
    axes: Sequence[Axis],
    samples: Coordinates | None,
    of_several: bool,
    on_several_axes: bool,
) -> list[Place] | None:
    """Merges two places into a list of one; None if they contradict each other on any axis.

    The list is empty if together they cover all axes, which is no place.
    """
    along = [
        frozenset[int]().union(*(dims_within_sample(coords, samples) for coords in place))
        for place in (one, other)
    ]
    found: list[Coordinates] = []
    is_whole, results = True, []
    for axis, first, second in zip(axes, one, other, strict=True):
        both = _merged_pair(first, second, axis, samples, along, of_several)
        if both is None:
            return None
        is_whole &= not both
        found += both or [whole_cell(first.index.dim(), axis)]
        if first is not second:
            results.append({first: 1, second: 2}.get(found[-1]))
    # They differ on one axis only, or one of them is the finer place on all of these axes.
    if not on_several_axes and (len(set(results)) > 1 or results.count(None) > 1):
        return None
    return [] if is_whole else [tuple(found)]


@torch.no_grad()
def _merged_pair(
    one: Coordinates,
    other: Coordinates,
    axis: Axis,
    samples: Coordinates | None,
    along: Sequence[frozenset[int]],
    of_several: bool,
) -> list[Coordinates] | None:
    """Merges two coordinates into a list of one; None if they contradict each other.

    The list is empty if together they cover the whole axis, which is no place.
    """
    if axis.input == SAMPLES:  # a mixture of samples stays one, also beside one of these samples
        low, high, _, within = _hull(one, other)
        return [from_borders(low, high, axis) or one] if within else None
    if axis.input == INPUTS:
        # Marks along queries and along keys stay separate: merged, they would fill a matrix.
        depends = (one.index > 0) | (other.index > 0)
        if depends.shape not in (one.index.shape, other.index.shape):
            return None
        return [compacted(depends, ONE_CELL) or one]
    dims, other_dims = (dims_within_sample(coords, samples) for coords in (one, other))
    # What is broadcast over a dimension, such as a gate, has no place of its own.
    if one is other or (dims < other_dims and along[0] < along[1]):
        return [other]
    if other_dims < dims and along[1] < along[0]:
        return [one]
    if dims != other_dims:
        return None
    if dims:
        one, other = _without_wide(one, other), _without_wide(other, one)
    low, high, gap, within = _hull(one, other)
    # Adjacent cells are merged, as a sum over them would be. Cells apart stay two coordinates.
    apart = bool((gap > SLACK).any())
    touch = len(gap) > 0 and bool((gap.abs() <= SLACK).all())
    # Two grids, as in a residual stream, become the finer one. Elements at two places stay at both:
    # a reshape may put windows, and tokens whose queries are elsewhere, in one dimension.
    if within or (dims and not touch and (of_several or not apart)):
        finer = _finer(one, other, axis, are_grids=bool(dims))
        if finer is not None:
            return [finer]
    # A token that is added to a sum of all tokens up to it keeps its own cell.
    for small, large in ((one, other), (other, one)) if dims and len(gap) else ():
        (start, stop), (large_start, large_stop) = small.borders(), large.borders()
        start, stop = start.clamp_min(-0.5), stop.clamp_max(axis.extent - 0.5)  # without padding
        is_inside = (start >= large_start - SLACK) & (stop <= large_stop + SLACK)
        if _share_an_end(large) and bool((is_inside | (large.index == 0)).all()):
            return [_filled_up(small, large)]
    if apart:
        return None
    by_sample = one.by_sample or other.by_sample
    hull = from_borders(low, high, axis, by_sample)
    if hull is None:
        return []
    return [of_each_sample(hull, samples) if by_sample and samples else hull]


def _hull(one: Coordinates, other: Coordinates) -> tuple[Tensor, Tensor, Tensor, bool]:
    """The smallest cells that hold those of two coordinates.

    Returns:
        The borders for each element; the size of the gap between its two cells, negative if these
        overlap, for the elements that have both; and whether one of the two always is the hull.
    """
    (low, high), (other_low, other_high) = one.borders(), other.borders()
    size, other_size, both = high - low, other_high - other_low, (one.index > 0) & (other.index > 0)
    low, high = torch.minimum(low, other_low), torch.maximum(high, other_high)
    within = bool((high - low <= torch.maximum(size, other_size) + SLACK)[both].all())
    return low, high, (high - low - size - other_size)[both], within


def _without_wide(coords: Coordinates, other: Coordinates) -> Coordinates:
    """Leaves out the few cells that are much wider than most and hold the cell of ``other``.

    If some tokens are replaced by a mean of tokens, and added to the old ones, they keep their own
    cells.
    """
    (low, high), (other_low, other_high) = coords.borders(), other.borders()
    width, other_width = high - low, other_high - other_low
    holds = (other_low >= low - SLACK) & (other_high <= high + SLACK) & (other.index > 0)
    is_wide = (width > 2 * width[coords.index > 0].median() + SLACK) & (width > other_width + SLACK)
    if not bool((holds & is_wide).any()):
        return coords
    return coords.moved(coords.index.where(~(holds & is_wide), 0)) or coords


def dims_within_sample(coords: Coordinates, samples: Coordinates | None) -> frozenset[int]:
    """The dimensions along which the elements of one sample have different cells."""
    of_samples = set(samples.dims) if samples else set[int]()
    dims = frozenset(coords.dims)
    if samples is None or not dims & of_samples:
        return dims
    if len(of_samples) > 1:
        return dims - of_samples
    # The dimension may hold several windows of each sample.
    (dim,) = of_samples
    first, sample = first_of_each(samples.index.flatten())
    is_same = torch.equal(coords.index.index_select(dim, first[sample]), coords.index)
    return dims - of_samples if is_same else dims


def _finer(one: Coordinates, other: Coordinates, axis: Axis, are_grids: bool) -> Coordinates | None:
    """The coordinates with the smaller cells, filled up with the other cells; None if neither.

    The states of a recurrent network that is written as a loop cover all steps up to their own. A
    state is not the finer one beside the next state. If both have a cell for each element, the
    cells of the finer one are therefore less than half as wide, unless they are adjacent as pixels.
    """
    sizes, other_sizes = (in_steps(each.cells[:, 1]).unique() for each in (one, other))  # type: ignore[no-untyped-call]
    if torch.equal(sizes, other_sizes):
        return None  # cells of equal size: the steps between them make neither grid the finer one
    are_adjacent = are_grids and _are_adjacent(one, axis) and _are_adjacent(other, axis)
    for small, large in ((one, other), (other, one)):
        widths = [[_widths(coords, axis) for coords in (small, large)]]
        is_one_each = not are_grids or len(small.cells) <= len(large.cells)
        if is_one_each and not are_adjacent:
            widths.append([2 * small.cells[:, 1], large.cells[:, 1]])
        if all(float(own.max()) < float(limit.min()) - SLACK for own, limit in widths):
            return _filled_up(small, large)
    return None


def _are_adjacent(coords: Coordinates, axis: Axis) -> bool:
    """Whether several cells are next to each other, without gaps and overlaps."""
    low, high = borders_of(widened(coords, axis).cells)
    return len(low) > 1 and bool(((low[1:] - high[:-1]).abs() < SLACK).all())


def _share_an_end(coords: Coordinates) -> bool:
    """Whether all cells start, or all stop, at the same position, as those of a cumulative sum."""
    ends = torch.stack(borders_of(coords.cells))
    return len(coords.cells) > 1 and bool((ends.amax(1) - ends.amin(1) < SLACK).any())


def _filled_up(small: Coordinates, large: Coordinates) -> Coordinates:
    """Coordinates, with the cells of others where they have none."""
    index = torch.where(large.index > 0, large.index + len(small.cells), 0)
    index = torch.where(small.index > 0, small.index, index)
    by_sample = small.by_sample or large.by_sample
    return compacted(index, torch.cat([small.cells, large.cells]), by_sample) or small


def _widths(coords: Coordinates, axis: Axis) -> Tensor:
    """The widths of cells, or the step of overlapping windows and of subsampled grids."""
    if narrowed(coords, axis) is not coords:
        return coords.cells[:2, 0].diff()
    cells = evenly_wide(coords.cells, axis) if coords.may_be_subsampled else coords.cells
    return cells[:, 1]
