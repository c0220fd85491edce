"""Places after a cumulative sum, and after a difference of two cumulative sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.cells import borders_of
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.elementwise import elementwise, samples_mixed_along
from captum_tgrad.decomposition.places.masks import places_in_sums
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, places
from captum_tgrad.decomposition.places.whole_grid import windows_joined, with_copies_refined


def running(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after a cumulative sum: for each element, the smallest cell with all its summands."""
    tensor = call.tensors[0]
    dim = call.bound["dim"] % max(tensor.dim(), 1)
    given = samples_mixed_along(places_in_sums(tensor, [dim]) or places(tensor.shape), [dim])

    def up_to_each(axis: Axis, claim: Coordinates) -> Coordinates | None:
        if dim not in claim.dims:
            return claim
        low, high = claim.borders()
        low, high = low.cummin(dim).values, high.cummax(dim).values
        return from_borders(low, high, axis, claim.by_sample)

    claims = [
        (axis, up_to_each(axis, claim))
        for axis, claim in with_copies_refined(windows_joined(given)).pairs
    ]
    return [places(given.shape, claims)] * len(outputs)


def subtracted(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places of a difference. ``cumsum[7] - cumsum[3]`` has one cell, over elements 4 to 7."""
    (both, *_) = elementwise(call, outputs)
    operands = [given for given in map(places_of, call.dependent) if given is not None]
    if len(operands) != 2:
        return [both]
    claims: list[tuple[Axis, Coordinates]] = []
    for axis, given in both.claims.items():
        own = [[c.aligned(len(both.shape)) for c in each.claims.get(axis, ())] for each in operands]
        between = None
        if max(map(len, own)) == 1 and own[0] != own[1]:
            between = _between_sums([each[0] if each else None for each in own], axis)
        claims += [(axis, claim) for claim in (given if between is None else [between])]
    return [places(both.shape, claims)]


def _between_sums(claims: Sequence[Coordinates | None], axis: Axis) -> Coordinates | None:
    """The cells of the elements that are in only one of two cumulative sums.

    Args:
        claims: The coordinates of both sums; None for a sum over the whole axis.
        axis: Their axis.

    Returns:
        The cells; None if these are not two cumulative sums with the same first element.
    """
    if axis.input == SAMPLES or not axis.is_place:
        return None
    known = [claim for claim in claims if claim is not None]
    starts, dims = {_start(claim) for claim in known}, {claim.dims for claim in known}
    (start, *others) = starts
    if start is None or others or len(dims) > 1:
        return None
    ends = []
    for claim in claims:
        end = torch.tensor(axis.extent - 0.5, dtype=torch.float64, device="cpu")
        if claim is not None:
            high = claim.borders()[1]
            # A sum without a cell is empty before the first cell, and over the whole axis after it.
            last = high.cummax(claim.dims[0]).values
            end = torch.where(high.isfinite(), high, torch.where(last.isfinite(), end, start))
        ends.append(end)
    return from_borders(torch.minimum(*ends), torch.maximum(*ends), axis)


def _start(claim: Coordinates) -> float | None:
    """The start of a cumulative sum, whose cells all start there; None for other coordinates."""
    low, _ = borders_of(claim.cells)
    if len(claim.dims) != 1 or claim.by_sample or len(low) < 2 or bool((low != low[0]).any()):
        return None
    return float(low[0])
