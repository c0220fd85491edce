"""Summarizes an evaluation: means, intervals, paired differences and skipped images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_tgrad.evaluation.report.bootstrap import LEVEL, RESAMPLES, Interval, bootstrap_means
from captum_tgrad.evaluation.storage.records import Record, pair_of
from captum_tgrad.metrics.registry import HIGHER_IS_BETTER, LOCALIZATION_NUMBERS, NUMBERS

REFERENCE = "t_grad"
"""The method that others are compared with."""

COLUMNS = (*NUMBERS, *LOCALIZATION_NUMBERS, "seconds")
"""All columns of a table, in order; those of localization only if records have them."""

Summary = dict[str, Any]


def summarize(
    records: Sequence[Record],
    skipped: Sequence[Mapping[str, Any]],
    titles: Mapping[str, str],
    protocol: Mapping[str, Any],
) -> Summary:
    """Summarizes an evaluation.

    Args:
        records: The records of all images and methods.
        skipped: Skipped images and methods: image and method, where None means all, and the reason.
        titles: The titles of the methods by name, in the order of the table.
        protocol: The protocol of the records; its ``seed`` is also that of the bootstrap.

    Returns:
        Plain dicts, lists, strings and numbers. ``protocol``, ``images`` (the number with records),
        ``interval`` (how intervals are computed), ``methods``, ``skipped`` and ``steps`` (the
        change of insertion minus deletion without every second step: root mean square over images
        and methods, and the largest change of a method's mean). For each method: ``title``;
        ``images``; for each metric, ``mean``, ``low``, ``high`` and ``images``; the seconds, but
        without ``low`` and ``high``; ``minus_t_grad``, the same for the paired differences to
        T-Grad; and ``reason``, why it is missing on some or all images, or None.
    """
    by_method: dict[str, dict[str, Record]] = {}
    for record in sorted(records, key=pair_of):
        by_method.setdefault(record["method"], {})[record["image"]] = record
    names = [name for name in titles if name in by_method]
    names += [name for name in by_method if name not in titles]
    images = sorted({image for each in by_method.values() for image in each})
    columns = _columns(records)
    values = {name: _values(by_method[name], images, columns) for name in names}
    others = [name for name in names if name != REFERENCE and REFERENCE in values]
    numbers = [*values.values(), *(values[name] - values[REFERENCE] for name in others)]
    seed = int(protocol.get("seed", 0))
    found = iter(bootstrap_means(np.hstack(numbers), seed) if numbers else ())
    own = {name: _cells(columns, found) for name in names}
    differences = {name: _cells(columns, found) for name in others}
    return {
        "protocol": dict(protocol),
        "images": len(images),
        "interval": f"{LEVEL:.0%} percentile bootstrap over images, {RESAMPLES} resamples",
        "higher_is_better": {name: HIGHER_IS_BETTER[name] for name in columns[:-1]},
        "methods": {
            name: {
                "title": titles.get(name, name),
                "images": len(by_method.get(name, {})),
                **own.get(name, {}),
                "minus_t_grad": differences.get(name),
                "reason": _reason(name, skipped),
            }
            for name in dict.fromkeys([*titles, *names])
        },
        "skipped": [dict(each) for each in skipped],
        "steps": _step_error(records),
    }


def _columns(records: Sequence[Record]) -> list[str]:
    """The columns that the records have, in the order of ``COLUMNS``."""
    there = {key for record in records for key in LOCALIZATION_NUMBERS if key in record}
    return [name for name in COLUMNS if name not in LOCALIZATION_NUMBERS or name in there]


def _step_error(records: Sequence[Record]) -> dict[str, float] | None:
    """The change of the results without every second step: of an image, and of a mean."""
    by_method: dict[str, list[float]] = {}
    for record in records:
        if record.get("step_error") is not None:
            by_method.setdefault(record["method"], []).append(record["step_error"])
    if not by_method:
        return None
    every = np.concatenate([*by_method.values()])
    return {
        "of_an_image": float(np.sqrt((every**2).mean())),
        "of_a_mean": max(abs(float(np.mean(errors))) for errors in by_method.values()),
    }


def _values(
    of_images: Mapping[str, Record], images: Sequence[str], columns: Sequence[str]
) -> npt.NDArray[np.float64]:
    """One row for each image, one column for each number; NaN for missing values."""
    rows = [[of_images.get(image, {}).get(column) for column in columns] for image in images]
    return np.array(rows, dtype=np.float64)  # None becomes NaN


def _cells(
    columns: Sequence[str], intervals: Iterator[Interval]
) -> dict[str, dict[str, float | int | None]]:
    """The next intervals, one for each column."""
    return {
        column: {
            key: None if math.isnan(value) else value
            for key, value in interval._asdict().items()
            # All images of a batch have the same seconds, so resampling them has no meaning.
            if column != "seconds" or key in ("mean", "images")
        }
        for column, interval in zip(columns, intervals, strict=False)
    }


def _reason(name: str, skipped: Sequence[Mapping[str, Any]]) -> str | None:
    """The most common reason why a method was skipped."""
    reasons = Counter(each["reason"] for each in skipped if each["method"] == name)
    return reasons.most_common(1)[0][0] if reasons else None
