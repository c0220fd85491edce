"""Writes files that are complete after a crash, and overwrites none of other programs.

The last functions turn values and tables into the contents of such files.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from captum_tgrad._support.writing import writing
from captum_tgrad.visualization.html_report import GENERATOR

PROTOCOL_FILE = "protocol.json"
REPORT = "report.html"

# The ``generator`` tag of a report is within this many bytes of its beginning.
_BEGINNING = 1000


class OutputError(ValueError):
    """The output folder has records or files that conflict with this run."""


class JsonLines:
    """A context with a file, created if needed; each line is on disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            _make_durable(path.parent)

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Appends a line; earlier ones stay complete if it raises WriteError, as on a full disk."""
        line = _encoded(json.dumps(entry, allow_nan=False, ensure_ascii=False)) + b"\n"
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


def write_files(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Writes files, given as contents by name, in their order; creates the folder if needed.

    Each file is replaced atomically: after a crash, the old or the new one is complete. Contents
    are computed before the call, so an interruption rarely leaves only some of the files. The first
    file should be the one by which the next run recognizes the files as its own: see
    ``check_owner``. Raises WriteError, an OSError.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / name
        # The name may be as long as the file system allows.
        temporary = path.with_name(f".{name[-32:]}.partial")
        with writing(path):
            try:
                with temporary.open("wb") as opened:
                    opened.write(_encoded(content) if isinstance(content, str) else content)
                    opened.flush()
                    os.fsync(opened.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            _make_durable(folder)


def check_owner(folder: Path, command: str, names: Iterable[str], report: str = REPORT) -> None:
    """Raises OutputError if a command would overwrite files of another command or program.

    The ``report`` in the folder says which command wrote it.
    """
    names = list(names)
    is_evaluation = REPORT in names and (folder / PROTOCOL_FILE).exists()
    owner = "evaluate" if is_evaluation else _writer(folder / report)
    if owner == command:
        return
    if owner is not None:
        raise OutputError(
            f"{folder} has the results of captum-tgrad {owner}, such as {report}, which would be"
            " overwritten: use another folder"
        )
    for name in names:
        if (folder / name).is_file():
            raise OutputError(
                f"{folder / name} would be overwritten, but captum-tgrad {command} did not write"
                " it: use another folder, or move the file"
            )


def _writer(report: Path) -> str | None:
    """The command that wrote a report; None if there is no report, or it names none."""
    if not report.is_file():
        return None
    with report.open("rb") as file:
        beginning = file.read(_BEGINNING).decode("utf-8", "replace")
    found = re.search(rf'content="{GENERATOR} ([a-z-]+)"', beginning)
    return found[1] if found else None


def _encoded(text: str) -> bytes:
    """Text as UTF-8; bytes of file names that are not UTF-8 become JSON escapes."""
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


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, with the same line ends on every platform."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
