"""One line of JSON for each image and method, durable on disk before the next one starts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captum_tgrad._support.writing import writing
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


class OutputError(ValueError):
    """The output folder has records or files that conflict with this run."""


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


class JsonLines:
    """A context with a file to append lines to; each is on disk when ``append`` returns.

    The file is created if it does not exist. Its ``descriptor`` is for locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            _make_durable(path.parent)

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.descriptor)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Appends a line.

        Raises:
            WriteError: An OSError, such as a full disk; earlier lines stay complete.
        """
        line = _encoded(json.dumps(entry, allow_nan=False, ensure_ascii=False)) + b"\n"
        whole = os.fstat(self.descriptor).st_size
        with writing(self.path):
            try:
                written = 0
                while written < len(line):
                    written += os.write(self.descriptor, line[written:])
                os.fsync(self.descriptor)
            except OSError:
                os.ftruncate(self.descriptor, whole)
                raise


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


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of one file; a half-written last line is skipped.

    Raises:
        OutputError: A line before the last is not a JSON object.
    """
    with path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if not line.endswith(b"\n"):
                return  # The process ended while it wrote this last line.
            try:
                entry = json.loads(line, parse_constant=_refuse)
            except ValueError as error:
                raise OutputError(f"{path}, line {number}, is damaged: remove it") from error
            if not isinstance(entry, dict):
                raise OutputError(f"{path}, line {number}, is not a record: remove it")
            yield entry


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def cut_half_written(folder: Path) -> None:
    """Removes half-written last lines, so that new ones can be appended."""
    for path in record_files(folder):
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as opened:
                opened.truncate(whole)
                os.fsync(opened.fileno())


def write_whole(path: Path, text: str) -> None:
    """Replaces a file atomically: after a crash, the old or the new one is complete."""
    temporary = path.with_name(f".{path.name}.partial")
    with writing(path):
        try:
            with temporary.open("wb") as opened:
                opened.write(_encoded(text))
                opened.flush()
                os.fsync(opened.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _make_durable(path.parent)


def _encoded(text: str) -> bytes:
    """JSON as UTF-8; bytes of file names that are not UTF-8 become JSON escapes."""
    return text.encode("utf-8", "backslashreplace")


def _make_durable(folder: Path) -> None:
    """Writes the entries of a folder to disk, so that they survive a power failure."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def as_json(value: Any) -> str:
    """Indented JSON, also for people to read."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
