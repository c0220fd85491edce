"""The records of an evaluation: one line of JSON for each image and method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_tgrad.evaluation.storage.files import OutputError
from captum_tgrad.evaluation.storage.json_lines import read_lines
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS, NUMBERS

_NUMBER = (int, float, type(None))
_KINDS: dict[str, tuple[type, ...]] = {
    "image": (str,),
    "method": (str,),
    "target": (int,),
    **dict.fromkeys(("clean_score", "baseline_score", *NUMBERS, *LOCALIZATION_NUMBERS), _NUMBER),
    "residual": _NUMBER,  # only of T-Grad
    "seconds": _NUMBER,
    "step_error": _NUMBER,  # the change of the difference of the areas without every second step
    "digest": (str,),  # of the image
    "region": (str,),  # a digest too, if regions are known
}
"""The keys of a record in their order, and the types of their values."""

# Left out where they are None; records of earlier versions lack the last three.
_FURTHER = ("residual", "step_error", "digest", "region")

KEYS = tuple(key for key in _KINDS if key not in (*LOCALIZATION_NUMBERS, *_FURTHER))
"""The keys of every record; it has those of the localization metrics if the region is known."""

Record = dict[str, Any]


def record_of(**values: float | int | str | None) -> Record:
    """A record, its keys in their order. NaN, which JSON does not know, becomes None.

    Example:
        >>> record_of(seconds=0.1, residual=None, insertion=math.nan, image="a.jpg")
        {'image': 'a.jpg', 'insertion': None, 'seconds': 0.1}
    """
    there = [key for key in _KINDS if key in values]
    given = {key: values[key] for key in there if key not in _FURTHER or values[key] is not None}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in given.items()
    }


def pair_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """The image and the method of a record."""
    return record["image"], record["method"]


def record_files(folder: Path) -> list[Path]:
    """The files of records in a folder, of one or several processes."""
    return sorted(folder.glob("records*.jsonl"))


def read_records(folder: Path) -> list[Record]:
    """The records in a folder, by image and method; raises OutputError for other lines."""
    found: dict[tuple[str, str], Record] = {}
    for path in record_files(folder):
        for record in read_lines(path):
            _check_record(record, path)
            found.setdefault(pair_of(record), record)
    return [found[pair] for pair in sorted(found)]


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
