"""Patches that are ranked and replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.accelerator import wide
from captum_tgrad.metrics.engine.importance import Maps


@dataclass(frozen=True)
class Patches:
    """The patch of every feature of all inputs together, ``(features,)``."""

    of_feature: Tensor

    @property
    def sizes(self) -> Tensor:
        """How many features are in each patch, ``(patches,)``."""
        return self.of_feature.bincount()

    def means(self, importance: Tensor) -> Tensor:
        """The mean importance of the features in each patch, ``(N, patches)``."""
        sizes = self.sizes
        # In float64, and equal values exactly: rounding of sums would break ties.
        values, patch = wide(importance), self.of_feature.expand_as(importance)
        zeros = values.new_zeros(len(values), len(sizes))
        lowest, highest = (
            zeros.scatter_reduce(1, patch, values, which, include_self=False)
            for which in ("amin", "amax")
        )
        means = zeros.index_add(1, self.of_feature, values) / sizes
        return means.clamp(lowest, highest).to(importance.dtype)

    def features(self, order: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """The order and the counts of features that those of patches, ``(N, ...)``, stand for."""
        position = order.argsort(dim=1)  # of each patch in the order
        of_features = position[:, self.of_feature].argsort(dim=1, stable=True)
        gone = F.pad(self.sizes[order].cumsum(1), (1, 0))
        return of_features, gone.gather(1, counts)


def patches_of(maps: Maps, size: int) -> Patches:
    """The patches of a grid over each map, ``size`` pixels a side; smaller at the far borders."""
    found, first = [], 0
    for each in maps:
        if each is None:
            continue
        number = torch.zeros(each.shape[1:], dtype=torch.long, device=each.device)
        for dimension, places in enumerate(each.shape[1:]):
            along = torch.arange(places, device=each.device) // size
            shape = [1] * (each.dim() - 1)
            shape[dimension] = places
            number = number * (-(-places // size)) + along.reshape(shape)
        found.append(number.flatten() + first)
        first = int(found[-1].max()) + 1
    return Patches(torch.cat(found))
