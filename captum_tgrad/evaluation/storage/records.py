"""The records of an evaluation: one line of JSON for each image and method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captum_tgrad.evaluation.storage.files import OutputError, read_lines
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS, NUMBERS

KEYS = ("image", "method", "target", "clean_score", "baseline_score", *NUMBERS, "seconds")
"""The keys of every record.

Before the seconds come the localization metrics, if the region is known, and T-Grad's ``residual``;
after them ``FURTHER``, which records of earlier versions lack.
"""

FURTHER = ("step_error", "digest", "region")
"""The change of the difference of the areas without every second step; digests of the image and of
its region, if regions are known."""

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        (*KEYS, *LOCALIZATION_NUMBERS, "residual", "step_error"), (int, float, type(None))
    ),
    "image": (str,),
    "method": (str,),
    "target": (int,),
}

Record = dict[str, Any]


def record_of(
    image: str,
    method: str,
    residual: float | None,
    **values: float | int | str | None,
) -> Record:
    """A record, its keys in their order. NaN, which JSON does not know, becomes None.

    The residual is None for methods other than T-Grad.

    Example:
        >>> record_of("a.jpg", "random", None, **dict.fromkeys(KEYS[2:], 0))["insertion"]
        0
    """
    given: Record = {"image": image, "method": method, "residual": residual, **values}
    record = {
        key: None if isinstance(given[key], float) and not math.isfinite(given[key]) else given[key]
        for key in (*KEYS[:-1], *LOCALIZATION_NUMBERS, "residual", "seconds", *FURTHER)
        if key in given
    }
    optional = FURTHER if residual is not None else ("residual", *FURTHER)
    return {key: value for key, value in record.items() if key not in optional or value is not None}


def pair_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """The image and the method of a record."""
    return record["image"], record["method"]


def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder, of one or several processes."""
    return sorted(folder.glob("records*.jsonl"))


def read_records(folder: Path) -> Iterator[Record]:
    """The records in a folder, each image and method once; raises OutputError for other lines."""
    seen: set[tuple[str, str]] = set()
    for path in record_files(folder):
        for record in read_lines(path):
            _check_record(record, path)
            if pair_of(record) not in seen:
                seen.add(pair_of(record))
                yield record


def _check_record(record: Mapping[str, Any], path: Path) -> None:
    """Raises OutputError unless a record has all keys, with values of their types."""
    missing = [key for key in KEYS if key not in record]
    if missing:
        raise OutputError(f"{path} holds a line without {missing[0]!r}: {sorted(record)}")
    for key, value in record.items():
        if type(value) not in _KINDS.get(key, (type(value),)):
            raise OutputError(
                f"{path} holds a line whose {key!r} is {value!r}, of image {record['image']!r}:"
                " remove the line"
            )
