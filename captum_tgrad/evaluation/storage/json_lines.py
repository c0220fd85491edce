"""Files with one line of JSON for each entry, which are complete after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from captum_tgrad._support.writing import encoded, make_durable, writing
from captum_tgrad.evaluation.storage.files import OutputError


class JsonLines:
    """A context with a file, created if needed; each line is on disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            make_durable(path.parent)

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Appends a line; earlier ones stay complete if it raises WriteError, as on a full disk."""
        line = encoded(json.dumps(entry, allow_nan=False, ensure_ascii=False)) + b"\n"
        whole = os.fstat(self._descriptor).st_size
        with writing(self.path):
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
                os.fsync(self._descriptor)
            except OSError:
                os.ftruncate(self._descriptor, whole)
                raise


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of one file, without a half-written last line; OutputError for other damage."""
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


def cut_half_written(path: Path) -> None:
    """Removes a half-written last line, so that new ones can be appended."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as opened:
            opened.truncate(whole)
            os.fsync(opened.fileno())
