"""Similarity of two maps: rank correlation and SSIM."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_tgrad._support.extras import import_from_extra

_Array = npt.NDArray[np.float64]

_LARGEST_WINDOW = 7
_SMALLEST_WINDOW = 3


class Similarity(NamedTuple):
    """Similarities of two maps; each has shape ``(N,)``, float64 on the CPU, 1 for equal maps."""

    spearman: Tensor
    spearman_absolute: Tensor
    ssim: Tensor
    ssim_absolute: Tensor


def similarity(one: Tensor, other: Tensor) -> Similarity:
    """Compares two batches of maps, ``(N, 1, *spatial)`` or ``(N, features)``, sample by sample.

    Spearman's rank correlation (scipy) gives ties their average rank, and is NaN if one of the two
    maps is constant. The structural similarity SSIM (scikit-image) uses uniform windows of 7
    positions a side, or the largest odd number that fits into the map. Each map is first scaled to
    [0, 1], and a constant map is 0. SSIM is NaN for maps smaller than 3 positions, and for
    features, which have no neighbors. All four are NaN for a map that is not finite.
    """
    pairs = list(zip(_arrays(one), _arrays(other), strict=True))
    absolute = [(np.abs(first), np.abs(second)) for first, second in pairs]
    columns = [
        [measure(first, second) for first, second in those]
        for measure in (_spearman, _ssim if one.dim() > 2 else lambda *_: math.nan)
        for those in (pairs, absolute)
    ]
    return Similarity(*torch.tensor(columns, dtype=torch.float64, device="cpu"))


def _arrays(maps: Tensor) -> _Array:
    without_channels = maps[:, 0] if maps.dim() > 2 else maps
    values: _Array = without_channels.detach().double().cpu().numpy()
    return values


def _spearman(one: _Array, other: _Array) -> float:
    stats = import_from_extra("scipy.stats", extra="sanity")
    for values in (one, other):
        if not np.isfinite(values).all() or values.min() == values.max():
            return math.nan
    return float(stats.spearmanr(one, other, axis=None).statistic)


def _ssim(one: _Array, other: _Array) -> float:
    metrics = import_from_extra("skimage.metrics", extra="sanity")
    window = min(_LARGEST_WINDOW, (min(one.shape) - 1) // 2 * 2 + 1)
    if window < _SMALLEST_WINDOW or not np.isfinite([one, other]).all():
        return math.nan
    one, other = _scaled(one), _scaled(other)
    return float(metrics.structural_similarity(one, other, win_size=window, data_range=1.0))


def _scaled(values: _Array) -> _Array:
    # SSIM is defined for non-negative values. Between -1 and 1, a map and its negative would be
    # similar: both the product of their means and their covariance are negative.
    values = values - values.min()
    largest = values.max()
    return values / largest if largest > 0 else values
