"""Coordinates of sums whose summands are listed one by one, as by indices or a sparse matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    SAMPLES,
    Axis,
    Coordinates,
    compacted,
    first_of_each,
    from_borders,
    of_each_sample,
    on_common_cells,
)
from captum_tgrad.decomposition.places.windows import narrowed


class Summands(NamedTuple):
    """The summands of sums.

    Args:
        coords: The coordinates of the summands.
        sums: The flat index of the sum to which each summand belongs, broadcastable to them.
        shape: The shape of the sums.
    """

    coords: Coordinates
    sums: Tensor
    shape: Sequence[int]


def stacked_coordinates(coordinates: Sequence[Coordinates]) -> Coordinates:
    """Stacks coordinates along an additional last dimension."""
    cells, indices = on_common_cells(coordinates)
    index = torch.stack(torch.broadcast_tensors(*indices), -1)  # type: ignore[no-untyped-call]
    by_sample = any(coords.by_sample for coords in coordinates)
    return compacted(index, cells, by_sample) or Coordinates(index, cells)


def cells_of_sums(
    summands: Sequence[Summands], axis: Axis, samples: Coordinates | None, is_only: bool
) -> list[Coordinates]:
    """As :func:`_cells_of_sums`; an element with several coordinates is several summands.

    This holds if no other axis has places. Otherwise, each of the coordinates is summed alone.
    """
    if len(summands) > 1 and is_only and axis.is_spatial:
        _, sums, shape = summands[0]
        own = stacked_coordinates([each.coords for each in summands])
        samples = samples and Coordinates(samples.index.unsqueeze(-1), samples.cells)
        summands = [Summands(own, sums.unsqueeze(-1), shape)]
    return [part for each in summands for part in _cells_of_sums(each, axis, samples, is_only)]


def _cells_of_sums(
    summands: Summands, axis: Axis, samples: Coordinates | None, is_only: bool
) -> list[Coordinates]:
    """The coordinates of sums: the cells of few summands, or the smallest cell that holds many.

    Many summands have no cell if they fill less than half of it, or if a sample has several sums
    that cover more than half of the axis on average.

    Args:
        summands: The summands.
        axis: The axis of the coordinates.
        samples: The samples of the summands, broadcastable to them; None if no sum belongs to a
            sample of its own.
        is_only: Whether no other axis has places.
    """
    coords, sums, shape = summands
    numbers, sums = torch.broadcast_tensors(coords.index, sums)  # type: ignore[no-untyped-call]
    has = numbers > 0
    summands = Summands(Coordinates(numbers[has], coords.cells), sums[has], shape)
    if axis.input == SAMPLES:
        hull = _hull(summands, axis, None)
        return [] if hull is None else [hull]
    if samples is not None:
        sample = torch.zeros(math.prod(shape), dtype=torch.long, device="cpu")
        sample.scatter_reduce_(0, summands.sums, samples.index.expand_as(numbers)[has], "amax")
        samples = compacted(sample.reshape(shape), samples.cells)
    few = few_cells(summands, is_only=is_only)
    if few is None:
        hull = _hull(summands, axis, samples)
        few = [] if hull is None else [hull]
    is_wide = _are_wide(few, axis, samples)
    if not bool(is_wide.any()):
        return few
    left = [each.moved(each.index.where(~is_wide, 0)) for each in few]
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


def _hull(summands: Summands, axis: Axis, samples: Coordinates | None) -> Coordinates | None:
    """For each sum, the smallest cell that holds all summands; see :func:`cells_of_sums`."""
    (coords, sums, shape), numbers = summands, summands.coords.index
    low, high = borders_of(coords.cells)
    low, high = (
        torch.full([math.prod(shape)], empty, dtype=torch.float64, device="cpu")
        .scatter_reduce(0, sums, values[numbers - 1], how)
        .reshape(shape)
        for values, how, empty in ((low, "amin", torch.inf), (high, "amax", -torch.inf))
    )
    if axis.input != SAMPLES:
        pairs = (sums * len(coords.cells) + numbers - 1).unique()  # type: ignore[no-untyped-call]
        widths = coords.cells[pairs % len(coords.cells), 1]
        filled = (pairs // len(coords.cells)).bincount(widths, math.prod(shape)).reshape(shape)
        low = low.where(filled > (high - low) / 2 - SLACK, torch.inf)
    hull = from_borders(low, high, axis)
    if hull is not None and samples is not None:  # windows of several samples are not sliding ones
        hull = of_each_sample(hull, samples)
    return narrowed(hull, axis)


def few_cells(
    summands: Summands,
    is_only: bool = False,
    place_ids: Tensor | None = None,
) -> list[Coordinates] | None:
    """Coordinates for each summand of a sum, with its cell; None for more than the most cells.

    They have the order of the summands, so that the n-th row and the n-th column are those of the
    same summand. If no other axis has places, cells are sorted, so that this order does not matter.

    Args:
        summands: The summands.
        is_only: Whether no other axis has places.
        place_ids: A number for the place of each summand on all axes, by which repeated summands
            are left out; None for the number of its cell.
    """
    (coords, sums, shape), numbers = summands, summands.coords.index
    place_ids = numbers if place_ids is None else place_ids
    at, number, place = (each[numbers > 0] for each in (sums, numbers, place_ids))
    order = (at * (len(coords.cells) + 1) + number if is_only else at).argsort(stable=True)
    at, number, place = at[order], number[order], place[order]
    counts = at.bincount(minlength=math.prod(shape))
    if is_only or int(counts.max()) > MOST_COORDINATES:
        first = first_of_each(at * (int(place_ids.max()) + 1) + place)[0].sort().values
        at, number = at[first], number[first]
        counts = at.bincount(minlength=math.prod(shape))
    most, start = int(counts.max()), counts.cumsum(0) - counts
    if most > MOST_COORDINATES:
        return None
    found, has = [], counts > 0
    for each in range(most):
        cells = torch.zeros_like(counts)
        cells[has] = number[start[has] + each % counts[has]]  # fewer than ``most`` are repeated
        found.append(coords.moved(cells.reshape(shape)))
    return [each for each in found if each is not None]
