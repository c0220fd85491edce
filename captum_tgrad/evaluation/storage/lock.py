"""Locks an output folder, so that one run at a time writes to it.

The operating system releases the lock when the process ends, even after a crash.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captum_tgrad.evaluation.storage.files import OutputError


def lock(descriptor: int, folder: Path) -> None:
    """Locks an open file in ``folder`` until it is closed, if the file system supports locks.

    Raises OutputError if another process has locked it.
    """
    if os.name != "posix":
        return
    fcntl: Any = importlib.import_module("fcntl")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another process is writing to {folder}: wait for it or stop it, then continue with"
            " resume (--resume); or use another folder"
        ) from error
    except OSError:
        return


@contextmanager
def locked(folder: Path, files: list[Path]) -> Iterator[None]:
    """A context in which this process holds the lock of a folder.

    Raises OutputError if another process has locked it or one of its ``files``.
    """
    if os.name != "posix":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, folder)
        # The first of several processes locks the folder; others of an earlier run may be running.
        for file in files:
            with file.open("rb") as opened:
                lock(opened.fileno(), folder)
        yield
    finally:
        os.close(descriptor)
