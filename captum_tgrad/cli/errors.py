"""Mistakes of the person who typed the command, told apart from faults of the program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CommandError(Exception):
    """Something about the command that the user can put right; its message says what."""


@contextmanager
def users_mistakes() -> Iterator[None]:
    """Turns what is raised for what the user gave into ``CommandError``.

    Only for steps that read what the user named or write where the user said: elsewhere the same
    exceptions are faults of the program and need their traceback.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise CommandError(str(error)) from error


def how_to_go_on(folder: Path) -> str:
    """The end of a message about an evaluation that ended early; empty if it has no records."""
    if not any(path.stat().st_size for path in folder.glob("records*.jsonl")):
        return ""
    return f": the records so far are in {folder}, and the same command with --resume goes on"
