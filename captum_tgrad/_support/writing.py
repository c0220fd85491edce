"""One-line errors for files and folders that cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
