"""The folder of an evaluation, with its records and its protocol."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_tgrad._support.writing import as_json, check_folder, write_files, writing
from captum_tgrad.evaluation.distributed import Workers
from captum_tgrad.evaluation.methods.built_in import METHODS
from captum_tgrad.evaluation.storage.files import PROTOCOL_FILE, REPORT, OutputError, check_owner
from captum_tgrad.evaluation.storage.json_lines import JsonLines, cut_half_written, read_lines
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


@dataclass
class Output:
    """The folder that the processes of one run write to."""

    path: Path
    own_titles: Mapping[str, str]  # of the methods of this run, by name
    workers: Workers
    locks: ExitStack  # keeps other runs out until it is closed

    @contextmanager
    def opened(self) -> Iterator[tuple[JsonLines, JsonLines]]:
        """A context with the files for this process' records, and for what it skips.

        Raises OutputError if another process writes to them.
        """
        paths = [self.path / self.workers.file_name(stem) for stem in ("records", "skipped")]
        with JsonLines(paths[0]) as records, JsonLines(paths[1]) as skipped, locked(paths[0]):
            yield records, skipped

    def begin(
        self, protocol: Protocol, resume: bool, check: Callable[[Sequence[Record]], None]
    ) -> set[tuple[str, str]]:
        """Prepares the folder; returns the images and methods that have a record.

        ``check`` raises OutputError if records do not fit the data set. So does this method if
        there are records without ``resume`` or with other settings, or if another run writes here.
        """
        folder = self.path
        try:
            check_folder(folder, "out")
        except ValueError as error:
            raise OutputError(str(error)) from error
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        written = record_files(folder)
        self.locks.enter_context(locked(folder))
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
            records = [*read_records(folder)]
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

    def records(self) -> list[Record]:
        """All records, ordered by image and method."""
        return sorted(read_records(self.path), key=pair_of)

    def skipped(self) -> list[dict[str, Any]]:
        """The images and methods that were skipped since ``begin``, without duplicates."""
        found: dict[tuple[str | None, str | None], dict[str, Any]] = {}
        for path in sorted(self.path.glob("skipped*.jsonl")):
            for each in read_lines(path):
                found.setdefault((each["image"], each["method"]), each)
        return [found[key] for key in sorted(found, key=lambda key: (key[1] or "", key[0] or ""))]

    def rejection(self, images: int) -> str | None:
        """The model's error, if all ``images`` were skipped and it rejected one; otherwise None."""
        reasons = [each["reason"] for each in self.skipped() if each["method"] is None]
        if len(reasons) < images or self.records():
            return None
        return next((each for each in reasons if each.startswith(REJECTED)), None)

    def protocol(self) -> Protocol:
        """The protocol of the records."""
        return read_protocol(self.path) or {}

    def titles(self) -> dict[str, str]:
        """The titles of the methods of this run and of earlier ones, in the registry's order."""
        known = {name: method.title for name, method in METHODS.items()} | dict(self.own_titles)
        evaluated = self.protocol().get("methods", {})
        titles = {name: title for name, title in known.items() if name in evaluated}
        for name, settings in evaluated.items():
            titles.setdefault(name, str(settings.get("title", name)))
        return titles
