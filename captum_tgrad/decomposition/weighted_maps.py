"""The weighted sum of maps of several resolutions: ``sum_i phi(S_i) * w_i``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.places.enlarging import enlarged, weights


@dataclass(frozen=True)
class WeightedMap:
    """A map and its weight.

    Args:
        evidence: ``S``, non-negative: shape ``(N, 1, *cells)``, or ``(N, 1)`` without a place.
        weight: ``w``, shape ``(N,)``; negative weights count as 0.
        grid: The cells. None: the map has no place and is spread evenly.
    """

    evidence: Tensor
    weight: Tensor
    grid: Grid | None


def weighted_sum(maps: Sequence[WeightedMap], cells: Grid | None, like: Tensor) -> Tensor:
    """``sum_i phi(S_i) * w_i`` on the cells of an input.

    ``phi(S) = enlarge(S) / sum(enlarge(S))``, and enlarging is linear: the maps of one grid are
    weighted and added up first, and only their sum is enlarged.

    Args:
        maps: The maps with their weights.
        cells: The cells of the input; None if it has no places.
        like: A map on these cells, ``(N, 1, *cells)``.
    """
    total = torch.zeros_like(like)
    groups: dict[object, list[WeightedMap]] = {}
    for each in maps:
        if cells is None or each.grid is None:
            each = WeightedMap(each.evidence.flatten(1).sum(1, keepdim=True), each.weight, None)
        key = (each.evidence.dtype, None if each.grid is None else each.grid.key)
        groups.setdefault(key, []).append(each)
    for group in groups.values():
        evidence = torch.stack([each.evidence for each in group])
        weight = torch.stack([each.weight for each in group])
        grid = group[0].grid
        if grid is None or cells is None:
            mass = evidence.flatten(2).sum(2)
            even = (share(mass, weight) * mass).sum(0) / like[0].numel()
            total += per_sample(even, total)
            continue
        mass = evidence
        for axis, shares in enumerate(weights(grid, cells, mass), 3):
            mass = mass * shares.reshape([-1] + [1] * (mass.dim() - axis - 1))
        each_weighs = share(mass.flatten(2).sum(2), weight)
        weighted = evidence * each_weighs.reshape(*each_weighs.shape, *[1] * (evidence.dim() - 2))
        total += enlarged(weighted.sum(0), grid, cells)
    return total


def share(mass: Tensor, weight: Tensor) -> Tensor:
    """``ReLU(weight) / mass``, the weight of each unit of a map; 0 where the mass is 0."""
    return torch.where(mass > 0, weight.clamp_min(0) / mass, 0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes ``values`` of shape ``(N,)`` so that they broadcast over ``like``."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def scaled(values: Tensor, factor: float) -> Tensor:
    """``values * factor``; no operation runs for the factor 1, as there are many small tensors."""
    return values if factor == 1 else values * factor
