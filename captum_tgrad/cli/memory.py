"""Memory that does not suffice, as something that the user can put right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captum_tgrad.cli.errors import CommandError
from captum_tgrad.evaluation.running.batch_halving import is_out_of_memory


@contextmanager
def short_memory(advice: str) -> Iterator[None]:
    """Turns an error of CUDA, Python or the CPU's allocator into ``CommandError``.

    Args:
        advice: What does not fit, and what to do about it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise CommandError(advice) from error
