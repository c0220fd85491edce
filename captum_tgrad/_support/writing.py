"""Files and folders that cannot be written, said in one line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WAYS_OUT = {
    errno.ENOSPC: "free some space, or name another folder",
    errno.EDQUOT: "free some space, or name another folder",
    errno.EACCES: "name a folder that you may write to",
    errno.EPERM: "name a folder that you may write to",
    errno.EROFS: "name a folder that you may write to",
    errno.ENAMETOOLONG: "give it a shorter name",
}


class WriteError(OSError):
    """A file or a folder cannot be written; the message says which, why, and what to do."""

    def __str__(self) -> str:
        return self.strerror or ""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A context in which errors of the operating system name the file that is written.

    Raises:
        WriteError: An OSError: in the place of any other.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        way_out = _WAYS_OUT.get(error.errno or 0, "name another folder")
        raise WriteError(error.errno, f"{path} cannot be written ({reason}): {way_out}") from error


def check_folder(folder: Path, name: str) -> None:
    """Checks that a folder can be made and written to, and makes nothing.

    Args:
        folder: There or not yet.
        name: What the user knows it by.

    Raises:
        ValueError: It is a file, or one of the folders that it is in is.
        WriteError: An OSError: it cannot be written to.
    """
    for each in (folder, *folder.parents):
        if each.is_dir():
            if not os.access(each, os.W_OK | os.X_OK):
                with writing(folder):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if each.exists():
            inside = "" if each == folder else f" cannot be made: {each}"
            raise ValueError(f"{name} {folder}{inside} is a file: name a folder, there or not yet")
