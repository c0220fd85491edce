"""How alike two maps are."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captum_tgrad._support.optional import import_from_extra

_Array = npt.NDArray[np.float64]

_LARGEST_WINDOW = 7
_SMALLEST_WINDOW = 3


class Similarity(NamedTuple):
    """The similarity of two maps, each shape ``(N,)``, float64 on the CPU; 1 for equal maps."""

    spearman: Tensor
    spearman_absolute: Tensor
    ssim: Tensor
    ssim_absolute: Tensor


def similarity(one: Tensor, other: Tensor) -> Similarity:
    """Compares two batches of maps, sample by sample, with and without their sign.

    Args:
        one: Maps, shape ``(N, 1, *spatial)`` or ``(N, features)``.
        other: Maps of the same shape.

    Returns:
        Spearman's rank correlation, ties at their average rank (scipy), NaN if one of the two maps
        is constant; and the structural similarity SSIM (scikit-image), with the library's uniform
        window of 7 places a side, or the largest odd number that fits into the map, and NaN if not
        even 3 fit or for features, which have no neighbors. For SSIM each
        map is scaled so that it lies between 0 and 1, a range of 1 (a constant map is 0). All four
        are NaN where a map is not finite.

    Raises:
        ModuleNotFoundError: scipy or scikit-image is not installed.
    """
    has_places = one.dim() > 2
    pairs = list(zip(_arrays(one), _arrays(other), strict=True))
    absolute = [(np.abs(first), np.abs(second)) for first, second in pairs]
    columns = (
        [_spearman(first, second) for first, second in pairs],
        [_spearman(first, second) for first, second in absolute],
        [_ssim(first, second) if has_places else math.nan for first, second in pairs],
        [_ssim(first, second) if has_places else math.nan for first, second in absolute],
    )
    return Similarity(*(torch.tensor(column, dtype=torch.float64) for column in columns))


def _arrays(maps: Tensor) -> _Array:
    places = maps[:, 0] if maps.dim() > 2 else maps
    values: _Array = places.detach().double().cpu().numpy()
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
    # SSIM is made for brightness, which is not negative: between -1 and 1 the opposite of a map
    # would be like it, a negative mean times a negative covariance.
    values = values - values.min()
    largest = values.max()
    return values / largest if largest > 0 else values
