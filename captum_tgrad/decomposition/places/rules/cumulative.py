"""Places after a cumulative sum, and after a difference of two cumulative sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.cells import SLACK, borders_of
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    OnAxis,
    from_borders,
    sample_index,
)
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.masks import places_in_sums
from captum_tgrad.decomposition.places.origin import places_of_all
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.rules.elementwise import elementwise, samples_mixed_along
from captum_tgrad.decomposition.places.rules.rule import Effect, places_rule
from captum_tgrad.decomposition.places.whole_grid import windows_joined


def running(call: Call) -> list[Places]:
    """Places after a cumulative sum: for each element, the smallest cell with all its summands."""
    tensor = call.tensors[0]
    dim = call.bound["dim"] % max(tensor.dim(), 1)
    places = samples_mixed_along(places_in_sums(tensor, [dim]) or make_places(tensor.shape), [dim])

    def up_to_each(axis: Axis, coords: Coordinates) -> Coordinates | None:
        if dim not in coords.dims:
            return coords
        low, high = coords.borders()
        low, high = low.cummin(dim).values, high.cummax(dim).values
        return from_borders(low, high, axis, coords.by_sample, sample_index(places.sample))

    found = with_copies_refined(windows_joined(places)).mapped(up_to_each)
    return [found] * len(call.returned)


@places_rule(Effect.ELEMENTWISE)
def subtracted(call: Call) -> list[Places]:
    """Places of a difference. ``cumsum[7] - cumsum[3]`` has one cell, over elements 4 to 7."""
    (both, *_) = elementwise(call)
    operands = places_of_all(call.dependent)
    if len(operands) != 2:
        return [both]
    coordinates: list[OnAxis] = []
    for axis, merged in both.coordinates.items():
        own = [
            [c.aligned(len(both.shape)) for c in each.coordinates.get(axis, ())]
            for each in operands
        ]
        between = None
        if max(map(len, own)) == 1 and own[0] != own[1]:
            between = _between_sums([each[0] if each else None for each in own], axis)
        found = merged if between is None else [between]
        coordinates += [(axis, coords) for coords in found]
    return [make_places(both.shape, coordinates)]


def _between_sums(coordinates: Sequence[Coordinates | None], axis: Axis) -> Coordinates | None:
    """The cells of the elements that are in only one of two cumulative sums.

    Args:
        coordinates: The coordinates of both sums; None for a sum over the whole axis.
        axis: Their axis.

    Returns:
        The cells; None if these are not two cumulative sums with the same first element.
    """
    if axis.input == SAMPLES or not axis.is_place:
        return None
    known = [coords for coords in coordinates if coords is not None]
    starts, dims = {_start(coords) for coords in known}, {coords.dims for coords in known}
    (start, *others) = starts
    if start is None or others or len(dims) > 1:
        return None
    first, side = start
    last = torch.tensor((-0.5, axis.extent - 0.5)[side], dtype=torch.float64, device="cpu")
    ends = [
        last if each is None else _ends(each.borders()[side], first, last) for each in coordinates
    ]
    return from_borders(torch.minimum(*ends), torch.maximum(*ends), axis)


def _start(coords: Coordinates) -> tuple[float, int] | None:
    """The common border of all cells of cumulative sums, and which border is that of their ends.

    None for other coordinates.
    """
    if len(coords.dims) == 1 and not coords.by_sample and len(coords.cells) > 1:
        for side, border in enumerate(borders_of(coords.cells)):
            if bool(((border - border[0]).abs() < SLACK).all()):
                return float(border[0]), 1 - side
    return None


def _ends(border: Tensor, first: float, last: Tensor) -> Tensor:
    """Where sums end; those without a cell are empty, or beyond the longest one, over the axis."""
    length, has = (border - first).abs().flatten(), border.isfinite()
    longest, shortest = length.where(has.flatten(), -1).argmax(), length.argmin()
    position = torch.arange(len(length), device="cpu").reshape(border.shape)
    is_whole = (position - longest) * (longest - shortest) > 0
    return torch.where(has, border, torch.where(is_whole, last, first))
