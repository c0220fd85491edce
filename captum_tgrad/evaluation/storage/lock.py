"""A folder of results is written by one run at a time.

A lock of the operating system, which it takes back when the process ends, however it ends.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from captum_tgrad.evaluation.storage.records import OutputError


def lock(descriptor: int, folder: Path) -> None:
    """Locks an open file or folder for this process, until it is closed.

    Where the operating system or the disk has no locks, nothing is done.

    Args:
        descriptor: Of the open file or folder.
        folder: The folder of the results, for the message.

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
            f"another process is writing to {folder}: wait for it or stop it, and then go on with"
            " resume (--resume); or name another folder"
        ) from error
    except OSError:
        return


class FolderLock:
    """The lock of a folder, from the construction to ``close``.

    Raises:
        OutputError: Another process has it, or writes to a file in the folder.
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
        """Lets others have the folder."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
