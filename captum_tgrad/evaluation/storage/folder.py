"""The folder of an evaluation, with its records and its protocol."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from captum_tgrad._support.writing import as_json, check_folder, write_files, writing
from captum_tgrad.evaluation.storage.files import PROTOCOL_FILE, REPORT, OutputError, check_owner
from captum_tgrad.evaluation.storage.json_lines import cut_half_written, read_lines
from captum_tgrad.evaluation.storage.protocol import Protocol, joined, read_protocol
from captum_tgrad.evaluation.storage.records import Record, pair_of, read_records, record_files


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A context that locks a file or folder, if its file system supports locks.

    The operating system releases the lock when the process ends, even after a crash. Raises
    OutputError if another process has locked it.
    """
    if os.name != "posix":
        yield
        return
    fcntl: Any = importlib.import_module("fcntl")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            folder = path if path.is_dir() else path.parent
            raise OutputError(
                f"another process is writing to {folder}: wait for it or stop it, then continue"
                " with resume (--resume); or use another folder"
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


FILES = (REPORT, "table.md", "summary.json", "summary.csv", "metrics.png", "seconds.png")
"""The files written after the last record; figures and the page only if requested."""

REJECTED = "the model rejects it: "
"""The beginning of the reason for skipping an image that the model rejects."""


def begin(
    folder: Path,
    protocol: Protocol,
    resume: bool,
    check: Callable[[Sequence[Record]], None],
    locks: ExitStack,
) -> set[tuple[str, str]]:
    """Prepares the folder; returns the images and methods that have a record.

    ``check`` raises OutputError if records do not fit the data set. So does this function if there
    are records without ``resume`` or with other settings, or if another run writes here. Others are
    kept out until ``locks`` is closed.
    """
    try:
        check_folder(folder, "out")
    except ValueError as error:
        raise OutputError(str(error)) from error
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = record_files(folder)
    locks.enter_context(locked(folder))
    # The first of several processes locks the folder; others of an earlier run may be running.
    for path in written:
        with locked(path):
            pass
    old = read_protocol(folder)
    # A run that ended before its first record leaves an empty file, which does not count.
    there_are_records = any(path.stat().st_size for path in written)
    records: list[Record] = []
    if there_are_records:
        if not resume:
            raise OutputError(
                f"there are records in {folder}: continue them with resume (--resume), or use"
                " another folder"
            )
        if old is None:
            raise OutputError(
                f"there are records in {folder}, but no protocol.json with their settings: use"
                " another folder"
            )
        records = read_records(folder)
        if "regions" in old and "regions" in protocol and all("region" in r for r in records):
            # More images may have one now; ``check`` compares the regions of the records.
            old = {**old, "regions": protocol["regions"]}
        protocol = joined(old, protocol)
        check(records)
    elif old is None:
        check_owner(folder, "evaluate", FILES)
    write_files(folder, {PROTOCOL_FILE: as_json(protocol)})
    for path in written:
        cut_half_written(path)
    # Skipped images are tried again.
    for path in folder.glob("skipped*.jsonl"):
        path.unlink()
    return {pair_of(record) for record in records}


def read_skipped(folder: Path) -> list[dict[str, Any]]:
    """The images and methods that were skipped since ``begin``, without duplicates."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(folder.glob("skipped*.jsonl")):
        for each in read_lines(path):
            found.setdefault((each["method"] or "", each["image"] or ""), each)
    return [found[key] for key in sorted(found)]


def rejection(folder: Path, images: int) -> str | None:
    """The model's error, if all ``images`` were skipped and it rejected one; otherwise None."""
    reasons = [each["reason"] for each in read_skipped(folder) if each["method"] is None]
    if len(reasons) < images or read_records(folder):
        return None
    return next((each for each in reasons if each.startswith(REJECTED)), None)
