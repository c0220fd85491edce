"""The cells of a tensor's elements along each axis of an input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.maps.redistribution import overlaps
from captum_tgrad.decomposition.places.cells import SLACK, are_nested, distinct_cells, even_cells
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    Axis,
    Coordinates,
    cells_of_samples,
    on_common_cells,
)
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.places.subsampling import evenly_wide, widened
from captum_tgrad.decomposition.places.whole_grid import on_whole_grid
from captum_tgrad.decomposition.places.windows import narrowed


def coordinates_by_axis(
    places: Places, axes: Sequence[Axis]
) -> tuple[list[tuple[Coordinates, ...]], int]:
    """The coordinates on each axis, and how many cells an element has.

    Those on several axes belong together one by one, such as a row and a column. Axes with
    another number of coordinates than the others are left out.
    """
    coordinates_on = on_whole_grid(places).coordinates
    by_axis = [coordinates_on.get(axis, ()) for axis in axes]
    count = max(map(len, by_axis), default=0)
    if count > MOST_COORDINATES:
        count = 1
    return [coordinates if len(coordinates) in (1, count) else () for coordinates in by_axis], count


def cells_on_axes(
    by_axis: Sequence[Sequence[Coordinates]], axes: Sequence[Axis], sample: Tensor, samples: int
) -> tuple[list[tuple[Tensor, list[Tensor]]], list[Tensor] | None]:
    """What :func:`_cells_on_axis` finds on each axis, and ``has`` of :func:`cells_of_map`."""
    cells = [_cells_on_axis(own, axis) for own, axis in zip(by_axis, axes, strict=True)]
    cells = _whole_axis_beside_others(cells, by_axis, axes)
    if not any(coords.by_sample for own in by_axis for coords in own):
        return cells, None
    cells = [
        _whole_axis_for_empty_samples(*own, sample, samples, axis)
        for own, axis in zip(cells, axes, strict=True)
    ]
    return cells, [
        cells_of_samples(numbers, sample, (samples, len(each))) for each, numbers in cells
    ]


def _cells_on_axis(coordinates: Sequence[Coordinates], axis: Axis) -> tuple[Tensor, list[Tensor]]:
    """The distinct cells on an axis, and for each of the coordinates the elements' cell numbers.

    The number is -1 for an element whose cell is outside of the input.
    """
    if not coordinates:
        return even_cells(axis.extent, 1), [torch.zeros((), dtype=torch.long, device="cpu")]
    coordinates = [narrowed(coords, axis) for coords in coordinates]
    along = [set(coords.dims) for coords in coordinates]
    if all(along) and not set.intersection(*along):  # queries and keys, which may be strided
        coordinates = [widened(coords, axis) for coords in coordinates]
    cells, numbers = on_common_cells(coordinates)
    inside = axis.holds(cells[:, 0])
    if not bool(inside.any()):
        return even_cells(axis.extent, 1), [torch.full((), -1, device="cpu")] * len(coordinates)
    among_inside = F.pad((inside.cumsum(0) - 1).where(inside, -1), (1, 0), value=-1)
    cells = cells[inside]
    if all(coords.may_be_subsampled for coords in coordinates):
        cells = evenly_wide(cells, axis)
    return cells, [among_inside[number] for number in numbers]


def _whole_axis_beside_others(
    cells: list[tuple[Tensor, list[Tensor]]],
    by_axis: Sequence[Sequence[Coordinates]],
    axes: Sequence[Axis],
) -> list[tuple[Tensor, list[Tensor]]]:
    """Gives constants without a cell on some axes the whole of these, if they have one on another.

    The class token of a frame has no row and no column: it is at its whole frame. The last state of
    a loop, which depends on all steps, is at all of them. Constants around a crop are not: the
    cells of the axis do not cover it, or others have none on the other axis.

    Args:
        cells: What :func:`_cells_on_axis` returned for each axis.
        by_axis: The coordinates on each axis.
        axes: The axes.
    """
    if any(len(own) > 1 or any(coords.by_sample for coords in own) for own in by_axis):
        return cells
    gaps = [bool(own) and not own[0].has_everywhere for own in by_axis]
    known = zip(by_axis, gaps, axes, strict=True)
    has_other = any(own and not gap and axis.extent > 1 for own, gap, axis in known)
    found = list(cells)
    for slot in [slot for slot, gap in enumerate(gaps) if gap]:
        (own, numbers), axis = cells[slot], axes[slot]
        _, _, covered = overlaps(even_cells(axis.extent, 1), own)
        is_covered = float(covered.sum()) > axis.extent * (1 - SLACK)
        if are_nested(own) or (has_other and is_covered):
            found[slot] = _at_whole_axis(own, numbers, by_axis[slot][0].index == 0, axis)
    return found


def _whole_axis_for_empty_samples(
    cells: Tensor, numbers: list[Tensor], sample: Tensor, samples: int, axis: Axis
) -> tuple[Tensor, list[Tensor]]:
    """Gives the elements of a sample that has no cells on an axis the whole axis as their cell.

    The arguments are what :func:`_cells_on_axis` returned, and the sample of each element.
    """
    without = ~cells_of_samples(numbers, sample, (samples, len(cells))).any(1)
    if not bool(without.any()):
        return cells, numbers
    return _at_whole_axis(cells, numbers, without[sample] & (sample >= 0), axis)


def _at_whole_axis(
    cells: Tensor, numbers: list[Tensor], where: Tensor, axis: Axis
) -> tuple[Tensor, list[Tensor]]:
    """Gives some elements the whole axis as their cell, which is added to the cells."""
    every, order = distinct_cells(torch.cat([cells, even_cells(axis.extent, 1)]))
    in_order = (torch.where(number >= 0, order[number], -1) for number in numbers)
    return every, [torch.where(where, order[-1], number) for number in in_order]


def cell_numbers(
    by_coords: Sequence[Sequence[Tensor]], sizes: list[int]
) -> tuple[list[Tensor], tuple[Tensor, ...] | None]:
    """For each of the coordinates, the elements' flat cell numbers, and their shares there.

    An element is divided equally among its distinct cells. The shares are None if all are equal.

    Args:
        by_coords: The number of each element's cell on each axis, by coordinates; -1 for none.
        sizes: The number of cells along each axis.
    """
    cells = [_on_grid(numbers, sizes) for numbers in by_coords]
    # An element that has fewer cells than others repeats its first one.
    first = reduce(_known_or, cells, torch.full((), -1, device="cpu"))
    cells = [_known_or(cell, first) for cell in cells]
    if len(cells) < 3:
        return cells, None  # if two coordinates have the same cell, it gets both halves
    is_new = [torch.ones_like(cell, dtype=torch.bool) for cell in cells]
    for slot, cell in enumerate(cells):
        for other in cells[:slot]:
            is_new[slot] = is_new[slot] & (cell != other)
    if all(bool(each.all()) for each in is_new):
        return cells, None
    count = sum(each.double() for each in is_new)
    return cells, tuple([each / count for each in is_new])


def _known_or(number: Tensor, other: Tensor) -> Tensor:
    known = number >= 0
    return number if bool(known.all()) else torch.where(known, number, other)


def _on_grid(numbers: Sequence[Tensor], sizes: list[int]) -> Tensor:
    """The flat number of each element's cell; -1 if it has no place on one of the axes."""
    cell = torch.zeros((), dtype=torch.long, device="cpu")
    placed = torch.ones((), dtype=torch.bool, device="cpu")
    for number, size in zip(numbers, sizes, strict=True):
        cell = cell * size + number.clamp_min(0)
        placed = placed & (number >= 0)
    return torch.where(placed, cell, -1)


def are_whole_input(cells: Sequence[Tensor], axes: Sequence[Axis]) -> Tensor:
    """Whether each cell of the grid, in flat order, covers the whole input and is no place."""
    along = [own[:, 1] >= axis.extent * (1 - SLACK) for own, axis in zip(cells, axes, strict=True)]
    return torch.stack(torch.meshgrid(*along, indexing="ij")).all(0).flatten()
