"""Places after a cumulative sum, and of differences between such sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.cells import borders_of
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.elementwise import along, elementwise
from captum_tgrad.decomposition.places.origin import claims_of, places_of
from captum_tgrad.decomposition.places.places import Places, places
from captum_tgrad.decomposition.places.whole_grid import on_whole_grid


def running(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after a cumulative sum: the smallest cell that holds all elements up to each."""
    (given, *_) = along(call, outputs)
    dim = call.bound["dim"] % max(outputs[0].dim(), 1)

    def up_to_each(axis: Axis, claim: Coordinates) -> Coordinates | None:
        if dim not in claim.dims:
            return claim
        low, high = claim.borders()
        low, high = low.cummin(dim).values, high.cummax(dim).values
        return from_borders(low, high, axis, claim.by_sample)

    claims = [(axis, up_to_each(axis, claim)) for axis, claim in on_whole_grid(given).pairs]
    return [places(given.shape, claims)] * len(outputs)


def subtracted(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places of a difference. That of two cumulative sums holds what only one of them adds up."""
    (found, *_) = elementwise(call, outputs)
    operands = [places_of(t) for t in (call.bound["input"], call.bound["other"]) if _depends(t)]
    if len(operands) < 2:
        return [found]
    rank = len(found.shape)
    claims: list[tuple[Axis, Coordinates]] = []
    for axis, both in found.claims.items():
        own = [[c.aligned(rank) for c in each.claims.get(axis, ())] for each in operands if each]
        between = None
        if len(own) == 2 and max(map(len, own)) == 1 and own[0] != own[1]:
            between = between_sums([each[0] if each else None for each in own], axis)
        claims += [(axis, claim) for claim in (both if between is None else [between])]
    return [places(found.shape, claims)]


def _depends(operand: object) -> bool:
    return isinstance(operand, Tensor) and operand.requires_grad


def differences(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``torch.diff``: each element is between two neighbors."""
    tensor, dim = call.bound["input"], call.bound["dim"] % call.bound["input"].dim()
    if call.bound["n"] != 1 or len(call.tensors) > 1:
        raise NoRuleError
    (output,) = outputs
    size = output.shape[dim]

    def of_both(axis: Axis, claim: Coordinates) -> list[Coordinates]:
        if dim not in claim.dims:
            return [claim]
        sides = [Coordinates(claim.index.narrow(dim, i, size), claim.cells) for i in (0, 1)]
        between = between_sums(sides, axis)
        return sides if between is None else [between]

    claims = [
        (axis, own.moved(own.index))
        for axis, claim in claims_of(tensor)
        for own in of_both(axis, claim)
    ]
    return [places(output.shape, claims)]


def between_sums(claims: Sequence[Coordinates | None], axis: Axis) -> Coordinates | None:
    """The cells of the elements that only one of two cumulative sums adds up.

    Args:
        claims: The coordinates of both sums; None for the sum of all elements.
        axis: The axis that they are on.

    Returns:
        The cells; None if they are not two cumulative sums from the same element on.
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
            # Before its first element a sum is empty. The sum of the whole axis has no cell.
            last = high.cummax(claim.dims[0]).values
            end = torch.where(high.isfinite(), high, torch.where(last.isfinite(), end, start))
        ends.append(end)
    return from_borders(torch.minimum(*ends), torch.maximum(*ends), axis)


def _start(claim: Coordinates) -> float | None:
    """Where a cumulative sum starts; None if it is none."""
    low, _ = borders_of(claim.cells)
    if len(claim.dims) != 1 or claim.by_sample or len(low) < 2 or bool((low != low[0]).any()):
        return None
    return float(low[0])
