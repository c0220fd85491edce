"""Combines the terms by levels: all resolutions have equal weight, the coarsest one guides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.stacks import StackedMaps
from captum_tgrad.decomposition.maps.weighted_maps import (
    WeightedMaps,
    per_sample,
    scale_factor,
    weighted_sum,
)

# The exponent of L_1. With 1/2, maps are slightly more faithful; with 1, better localized.
_GUIDANCE = 3 / 4
# Terms with a smaller share of all evidence are rounding errors. The limit is small for float32
# too: the input, most of which cancels, can have a million times the evidence of a deep layer.
_LEAST_EVIDENCE = 1e-12
# Levels with a smaller sum of weights are left out: in float32, they are rounding errors. The limit
# is the same in float64, so that both have the same map.
_LEAST_WEIGHT = 2.0**-15


def levels_map(own: StackedMaps, biases: Sequence[StackedMaps]) -> Tensor:
    """The map of one input that has places.

    With the elements ``a = gradient * b`` of term ``i``, its evidence in each cell is
    ``E_i = ReLU(sum a)``. Its weight is the share of the elements' magnitude that does not cancel,
    ``ReLU(score_i) / sum |a|``. The weighted terms of a level are added up and scaled to the sum 1,
    which gives ``L_1`` (the coarsest) to ``L_n``. The map is ``L_1^(3/4) * sum_k L_k``, scaled to
    the sum of the positive scores. With one level, it is ``L_1``, scaled.

    Terms without a place and terms of one cell are left out. If there are no others, the map is
    constant.

    The arguments are those of :func:`combine`. The shape is ``(N, 1, *cells)``.
    """
    stacks = [own, *biases]
    scores = [each.score.clamp_min(0) for each in stacks]
    total = torch.cat(scores).sum(0)
    combined, coarsest = torch.zeros_like(own.positive[0]), torch.zeros_like(own.positive[0])
    count = torch.zeros_like(total)
    for level, present in _levels(stacks, scores):
        mapped = weighted_sum(level, own.grid, combined)
        mass = mapped.flatten(1).sum(1) * present
        mapped *= per_sample(scale_factor(mass, torch.ones_like(mass)), mapped)
        combined += mapped
        coarsest += mapped * per_sample(count == 0, mapped)
        count += mass > 0
    guided = combined * coarsest.pow_(_GUIDANCE)
    combined = torch.where(per_sample(count > 1, combined), guided, combined)
    combined += per_sample(count == 0, combined)
    return combined * per_sample(total / combined.flatten(1).sum(1), combined)


def _levels(
    stacks: Sequence[StackedMaps], scores: Sequence[Tensor]
) -> list[tuple[list[WeightedMaps], Tensor]]:
    """The levels, the coarsest first: their maps, and whether each sample has evidence there."""
    masses = [(each.positive + each.negative).flatten(2).sum(2) for each in stacks]
    least = _LEAST_EVIDENCE * torch.cat(masses).sum(0)
    levels: dict[int, tuple[list[WeightedMaps], list[Tensor]]] = {}
    for each, mass, score in zip(stacks, masses, scores, strict=True):
        if each.grid is not None and not each.grid.has_one_cell:
            weight = torch.where((mass > least) & (each.placed > 0), score / mass, 0)
            net = (each.positive - each.negative).clamp_min_(0)
            maps, shares = levels.setdefault(_octave(each.grid), ([], []))
            maps.append(WeightedMaps(net, weight, each.grid))
            shares.append(weight)
    ordered = [levels[octave] for octave in sorted(levels, reverse=True)]
    return [(maps, torch.cat(shares).sum(0) > _LEAST_WEIGHT) for maps, shares in ordered]


def _octave(grid: Grid) -> int:
    """The coarseness of a grid: ``log2`` of the side of a cell in pixels, rounded.

    Grids of similar size, such as 149 and 147, are one level. Different sides count by their
    geometric mean.
    """
    sides = [math.log2(side) for side in grid.finest_sides]
    # Rounds halves down. The small constant absorbs the rounding error of coordinates.
    return math.ceil(sum(sides) / len(sides) - 0.5 - 1e-6)
