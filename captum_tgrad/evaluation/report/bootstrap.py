"""Means with bootstrap intervals over the images."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 10_000
# Random numbers per chunk, so that memory does not grow with the images times the resamples.
_AT_ONCE = 4_000_000


class Interval(NamedTuple):
    """The mean over the images that have a value, its 95% interval, and their number."""

    mean: float
    low: float
    high: float
    images: int


def bootstrap_means(values: Array, seed: int = 0) -> list[Interval]:
    """The mean of each column with its 95% interval, by the percentile bootstrap.

    ``values`` has one row for each image, and NaN for missing values. Rows are drawn with
    replacement, the same rows for all columns, so that differences between columns are paired. The
    interval is NaN if no image has a value.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; the numbers
    are those of ``scipy.stats.bootstrap(method="percentile")``.

    Example:
        >>> bootstrap_means(np.array([[1.0], [2.0], [3.0]]))[0]
        Interval(mean=2.0, low=1.0, high=3.0, images=3)
    """
    there = np.isfinite(values)
    counts = there.sum(0)
    filled = np.where(there, values, 0.0)
    generator = np.random.default_rng(seed)
    means = np.empty((RESAMPLES, values.shape[1]))
    chunk = max(1, _AT_ONCE // max(1, len(values)))
    with np.errstate(invalid="ignore"):
        for first in range(0, RESAMPLES, chunk):
            size = min(chunk, RESAMPLES - first)
            drawn = generator.integers(0, len(values), (size, len(values)))
            # How often each row was drawn in each resample.
            places = drawn + len(values) * np.arange(size)[:, None]
            counted = np.bincount(places.ravel(), minlength=drawn.size)
            weights = counted.reshape(drawn.shape).astype(np.float64)
            # NaN for a resample in which no image has a value; the quantiles ignore it.
            means[first : first + size] = (weights @ filled) / (weights @ there)
        whole = filled.sum(0) / counts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of columns without a value
        ends = np.nanquantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    columns = (whole, *ends, counts)
    return [Interval(*row) for row in zip(*(each.tolist() for each in columns), strict=True)]
