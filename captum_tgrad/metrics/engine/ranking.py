"""The order in which features are replaced, and their number at each point of a curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.arguments import check_choice
from captum_tgrad.decomposition.precision import in_double_precision
from captum_tgrad.metrics.engine.importance import Maps, pooled, unpooled

Ties = Literal["stable", "group"]


@dataclass(frozen=True)
class Ranking:
    """The order in which features are replaced.

    Attributes:
        points: The point of the curve at which each feature is replaced, shaped like the maps; None
            for a frozen input.
        counts: How many features of all inputs together have been replaced at each point, ``(N,
            points)``, from 0 to all.
        tied_share: The share of features whose importance equals that of another, ``(N,)``.
        arbitrary_share: The share of features in groups of ties larger than a step, ``(N,)``: with
            ``ties="stable"``, their raster order affects the curve.
    """

    points: Maps
    counts: Tensor
    tied_share: Tensor
    arbitrary_share: Tensor

    @property
    def features(self) -> int:
        """The number of features of all inputs together."""
        return int(self.counts[0, -1])

    def fractions(self, dtype: torch.dtype) -> Tensor:
        """The fraction of all features that is replaced at each point, ``(N, points)``."""
        return self.counts.to(dtype) / self.features

    def scored_points(self) -> Tensor:
        """For each point, the one whose examples are scored in its place, ``(N, points)``.

        Points that replace the same number of features have the same examples. The first of them is
        scored, or the last point if it is one of them.
        """
        counts = self.counts.contiguous()
        first = torch.searchsorted(counts, counts)
        return torch.where(counts == self.features, counts.shape[1] - 1, first)


def rank(maps: Maps, n_steps: int, ties: Ties, patch_size: int | None = None) -> Ranking:
    """Ranks the features of all inputs together.

    Point j of the curve replaces ``floor(j * features / n_steps)`` features, so the first and
    the last point are always included; with more steps than features, every feature is a step.

    With ``ties="stable"``, features of equal importance are replaced in raster order, input by
    input. With ``ties="group"``, each count is moved to the nearest end of a group of equal
    features (the lower one if both are equally near): a group is replaced as a whole, the curve
    crosses it on a straight line, and the order inside the group does not matter.

    With a ``patch_size``, patches of a grid that starts in the first corner are ranked by the mean
    importance of their features, counted and replaced as a whole.
    """
    check_choice(ties, Ties, "ties")
    importance = pooled(maps)
    patch_of = None if patch_size is None else patches(maps, patch_size)
    if patch_of is not None:
        importance = patch_means(importance, patch_of)
    samples, units = importance.shape
    values, order = torch.sort(importance, dim=1, descending=True, stable=True)
    same_as_next = values[:, 1:] == values[:, :-1]
    steps = min(n_steps, units)
    nominal = torch.arange(steps + 1, device=order.device) * units // steps
    counts = nominal.expand(samples, -1)
    if ties == "group":
        counts = _nearest_ends(same_as_next, counts)
    # A unit, a feature or a patch, is replaced when the count exceeds its place in the order.
    places = torch.arange(units, device=order.device).repeat(samples, 1)
    in_order = torch.searchsorted(counts.contiguous(), places, right=True, out_int32=True)
    points = torch.empty_like(in_order).scatter_(1, order, in_order)
    if patch_of is not None:
        points = points[:, patch_of]
        counts = F.pad(patch_of.bincount()[order].cumsum(1), (1, 0)).gather(1, counts)
    group_sizes = _group_sizes(same_as_next)
    return Ranking(
        unpooled(points, maps),
        counts,
        tied_share=(group_sizes > 1).float().mean(1),
        arbitrary_share=(group_sizes > -(-units // steps)).float().mean(1),
    )


def count_of(share: float, features: int) -> int:
    """``floor(share * features)``, rounded first: 0.29 * 100 is 28.999999999999996 in floats."""
    return math.floor(round(share * features, 6))


def _nearest_ends(same_as_next: Tensor, counts: Tensor) -> Tensor:
    """``counts``, each moved to the nearest count that cuts no group of equal features."""
    samples, gaps = same_as_next.shape
    whole = torch.ones(samples, gaps + 2, dtype=torch.bool, device=counts.device)
    whole[:, 1:-1] = ~same_as_next  # whether this many features are whole groups
    position = torch.arange(gaps + 2, device=counts.device).expand(samples, -1)
    below = torch.where(whole, position, 0).cummax(1).values
    above = torch.where(whole, position, gaps + 1).flip(1).cummin(1).values.flip(1)
    lower, upper = below.gather(1, counts), above.gather(1, counts)
    return torch.where(counts - lower <= upper - counts, lower, upper)


def _group_sizes(same_as_next: Tensor) -> Tensor:
    """The size of each feature's group of ties, in the order of the ranking, ``(N, features)``."""
    group = F.pad((~same_as_next).cumsum(1), (1, 0))
    sizes = torch.zeros_like(group).scatter_add_(1, group, torch.ones_like(group))
    return sizes.gather(1, group)


def patches(maps: Maps, size: int) -> Tensor:
    """The number of the patch of each feature of all inputs together, ``(features,)``.

    The patches are a grid over each map, ``size`` pixels a side; smaller at the far borders.
    """
    found, first = [], 0
    for each in maps:
        if each is None:
            continue
        number = torch.zeros((), dtype=torch.long, device=each.device)
        for places in each.shape[1:]:
            along = torch.arange(places, device=each.device) // size
            number = number[..., None] * -(-places // size) + along
        found.append(first + number.flatten())
        first = int(found[-1][-1]) + 1  # the last feature is in the last patch
    return torch.cat(found)


def patch_means(importance: Tensor, patch_of: Tensor) -> Tensor:
    """The mean importance of the features in each patch, ``(N, patches)``."""
    sizes = patch_of.bincount()
    # In float64, and equal values exactly: rounding of sums would break ties.
    values, patch = in_double_precision(importance), patch_of.expand_as(importance)
    zeros = values.new_zeros(len(values), len(sizes))
    lowest, highest = (
        zeros.scatter_reduce(1, patch, values, which, include_self=False)
        for which in ("amin", "amax")
    )
    means = zeros.index_add(1, patch_of, values) / sizes
    return means.clamp(lowest, highest).to(importance.dtype)
