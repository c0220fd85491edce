"""Reports out-of-memory errors as errors that the user can fix."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captum_tgrad._support.out_of_memory import is_out_of_memory
from captum_tgrad.cli.errors import CommandError


@contextmanager
def short_memory(advice: str) -> Iterator[None]:
    """Converts out-of-memory errors to ``CommandError``.

    Args:
        advice: What does not fit, and how to fix it.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(advice) from error
