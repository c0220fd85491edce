"""Errors of the user, as opposed to bugs of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CommandError(Exception):
    """An error that the user can fix; the message says how."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Converts errors about the user's arguments to ``CommandError``.

    Only for steps that read or write what the user named: elsewhere the same exceptions are bugs
    and need their traceback. Out-of-memory errors are left to ``out_of_memory_errors``.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        if _is_out_of_memory(error):
            raise
        raise CommandError(str(error)) from error


@contextmanager
def out_of_memory_errors(advice: str) -> Iterator[None]:
    """Converts out-of-memory errors to a ``CommandError`` that gives this advice."""
    try:
        yield
    except (RuntimeError, MemoryError, OSError, ImportError) as error:
        if not _is_out_of_memory(error):
            raise
        raise CommandError(advice) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, ImportError):  # torch's own libraries may not fit
        return "failed to map segment" in str(error) or "allocate memory" in str(error)
    # Imported here: torch takes a second to load.
    from captum_tgrad._support.model_errors import is_out_of_memory

    return is_out_of_memory(error)


def resume_hint(folder: Path) -> str:
    """How to continue an evaluation that ended early; empty if it has no records."""
    if not any(path.stat().st_size for path in folder.glob("records*.jsonl")):
        return ""
    return f": the records so far are in {folder}; continue with the same command and --resume"
