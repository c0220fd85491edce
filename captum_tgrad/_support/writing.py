"""Writes files that are complete after a crash; one-line errors if they cannot be written."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from captum_tgrad._support.arguments import check_number

_ADVICE = {
    errno.ENOSPC: "free some space, or use another folder",
    errno.EDQUOT: "free some space, or use another folder",
    errno.EACCES: "use a folder with write permission",
    errno.EPERM: "use a folder with write permission",
    errno.EROFS: "use a writable folder",
    errno.ENAMETOOLONG: "give it a shorter name",
}


class WriteError(OSError):
    """A file or folder cannot be written; the message names it, the reason and what to do."""

    def __str__(self) -> str:
        return self.strerror or ""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which errors of the operating system name the file that is written.

    Raises:
        WriteError: An OSError, which replaces any other OSError.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "use another folder")
        raise WriteError(error.errno, f"{path} cannot be written ({reason}): {advice}") from error


def check_folder(folder: Path, name: str) -> None:
    """Checks that a folder can be created, if needed, and written to; creates nothing.

    Raises:
        ValueError: It or one of its parents is a file.
        WriteError: An OSError: it cannot be written to.
    """
    for each in (folder, *folder.parents):
        if each.is_dir():
            if not os.access(each, os.W_OK | os.X_OK):
                with writing(folder):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if each.exists():
            inside = "" if each == folder else f" cannot be created: {each}"
            raise ValueError(f"{name} {folder}{inside} is a file: use a folder")


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
                    opened.write(encoded(content) if isinstance(content, str) else content)
                    opened.flush()
                    os.fsync(opened.fileno())
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            make_durable(folder)


def encoded(text: str) -> bytes:
    """Text as UTF-8; bytes of file names that are not UTF-8 become JSON escapes."""
    return text.encode("utf-8", "backslashreplace")


def make_durable(folder: Path) -> None:
    """Writes the entries of a folder to disk, so that they survive a power failure."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def as_json(value: Any) -> str:
    """Indented JSON, also for people to read; NumPy numbers become plain ones."""
    number = partial(check_number, name="an entry")
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=number) + "\n"


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, with the same line ends on every platform."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
