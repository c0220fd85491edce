"""The weighted sum of maps of several resolutions: ``sum_i phi(S_i) * w_i``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.enlarging import enlarged, weights
from captum_tgrad.decomposition.maps.grid import Grid


@dataclass(frozen=True, eq=False)
class WeightedMaps:
    """Maps on the same cells, and their weights.

    Args:
        evidence: ``S``, non-negative: shape ``(maps, N, 1, *cells)``, or ``(maps, N, 1)`` without a
            place.
        weight: ``w``, shape ``(maps, N)``; negative weights count as 0.
        grid: The cells; None if the maps have no place and are spread evenly.
    """

    evidence: Tensor
    weight: Tensor
    grid: Grid | None


def weighted_sum(maps: Sequence[WeightedMaps], cells: Grid | None, like: Tensor) -> Tensor:
    """``sum_i phi(S_i) * w_i`` on the cells of an input.

    ``phi(S) = enlarge(S) / sum(enlarge(S))``. Because enlarging is linear, the maps of one grid
    are weighted and added up first, and only their sum is enlarged.

    Args:
        maps: The maps with their weights.
        cells: The cells of the input; None if it has no places.
        like: A map on these cells, ``(N, 1, *cells)``.
    """
    total = torch.zeros_like(like)
    if cells is not None:
        parts: tuple[list[WeightedMaps], list[WeightedMaps]] = ([], [])
        for each in maps:
            parts[each.grid is not None and each.grid.sizes == [1]].append(each)
        others, single = parts
        if len(single) > 1:
            total += _of_single_cells(single, cells)
            maps = others
    for each in maps:
        grid, mass = each.grid, each.evidence
        if grid is None or cells is None:
            mass = mass.flatten(2).sum(2)
            even = (scale_factor(mass, each.weight) * mass).sum(0) / like[0].numel()
            total += per_sample(even, total)
            continue
        mass = mass * weights(grid, cells, mass)
        weigh = scale_factor(mass.flatten(2).sum(2), each.weight)
        weighted = each.evidence * weigh.reshape(*weigh.shape, *[1] * (mass.dim() - 2))
        total += enlarged(weighted.sum(0), grid, cells)
    return total


def _of_single_cells(maps: Sequence[WeightedMaps], cells: Grid) -> Tensor:
    """The weighted sum for maps of one cell on a single axis, as of a loop over time steps."""
    evidence = torch.cat([each.evidence.flatten(1) for each in maps])
    weight = torch.cat([each.weight for each in maps])
    units = torch.cat(
        [
            enlarged(evidence.new_ones(1), each.grid, cells).expand(len(each.weight), -1)
            for each in maps
            if each.grid is not None
        ]
    )
    mass = evidence * units.sum(1, keepdim=True)
    return (units.T @ (scale_factor(mass, weight) * evidence)).T.unsqueeze(1)


def scale_factor(mass: Tensor, weight: Tensor) -> Tensor:
    """``ReLU(weight) / mass``, the factor that scales a map to its weight; 0 if the mass is 0."""
    return torch.where(mass > 0, weight.clamp_min(0) / mass, 0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Reshapes ``values`` of shape ``(N,)`` so that they broadcast over ``like``."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
