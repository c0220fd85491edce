"""Patches that are ranked and replaced as a whole.

``patch_of``, ``(features,)``, is the number of the patch of each feature of all inputs together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.accelerator import wide
from captum_tgrad.metrics.engine.importance import Maps


def patches(maps: Maps, size: int) -> Tensor:
    """``patch_of`` for a grid over each map, ``size`` pixels a side; smaller at the far borders."""
    found, first = [], 0
    for each in maps:
        if each is None:
            continue
        grid = [-(-places // size) for places in each.shape[1:]]
        last = first + math.prod(grid)
        number = torch.arange(first, last, device=each.device).reshape(grid)
        for dimension, places in enumerate(each.shape[1:]):
            number = number.repeat_interleave(min(size, places), dimension).narrow(
                dimension, 0, places
            )
        found.append(number.flatten())
        first = last
    return torch.cat(found)


def patch_means(importance: Tensor, patch_of: Tensor) -> Tensor:
    """The mean importance of the features in each patch, ``(N, patches)``."""
    sizes = patch_of.bincount()
    # In float64, and equal values exactly: rounding of sums would break ties.
    values, patch = wide(importance), patch_of.expand_as(importance)
    zeros = values.new_zeros(len(values), len(sizes))
    lowest, highest = (
        zeros.scatter_reduce(1, patch, values, which, include_self=False)
        for which in ("amin", "amax")
    )
    means = zeros.index_add(1, patch_of, values) / sizes
    return means.clamp(lowest, highest).to(importance.dtype)


def features_of_patches(order: Tensor, counts: Tensor, patch_of: Tensor) -> tuple[Tensor, Tensor]:
    """The order and the counts of features, from those of patches, ``(N, ...)``."""
    position = order.argsort(dim=1)  # of each patch in the order
    of_features = position[:, patch_of].argsort(dim=1, stable=True)
    gone = F.pad(patch_of.bincount()[order].cumsum(1), (1, 0))
    return of_features, gone.gather(1, counts)
