"""Locks an output folder, so that one run at a time writes to it.

The operating system releases the lock when the process ends, even after a crash.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from captum_tgrad.evaluation.storage.records import OutputError


def lock(descriptor: int, folder: Path) -> None:
    """Locks an open file or folder for this process, until it is closed.

    If the operating system or the disk has no locks, it does nothing.

    Args:
        descriptor: The descriptor of the open file or folder.
        folder: The output folder, for the message.

    Raises:
        OutputError: Another process has locked it.
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


class FolderLock:
    """The lock of a folder, from construction to ``close``.

    Raises:
        OutputError: Another process holds it, or writes to a file in the folder.
    """

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self._descriptor: int | None = None
        if os.name != "posix":
            return
        self._descriptor = os.open(folder, os.O_RDONLY)
        try:
            lock(self._descriptor, folder)
            # What is left of a run of several processes, of which only the first has the folder.
            for file in files:
                opened = os.open(file, os.O_RDONLY)
                try:
                    lock(opened, folder)
                finally:
                    os.close(opened)
        except OutputError:
            self.close()
            raise

    def close(self) -> None:
        """Releases the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
