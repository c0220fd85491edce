"""Splits a batch when memory is short."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

from captum_tgrad._support.accelerator import empty_caches
from captum_tgrad._support.model_errors import is_out_of_memory

Result = TypeVar("Result")


class Halving:
    """Runs a function on parts of a batch; halves their ``size`` when memory is short."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, run: Callable[[slice], Result], count: int) -> Iterator[Result]:
        """Yields the result of ``run`` for each part.

        Raises MemoryError if a single image does not fit.
        """
        first = 0
        while first < count:
            part = slice(first, min(first + self.size, count))
            try:
                result = run(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            else:
                yield result
                first = part.stop
                continue
            # Not in the handler: the tensors of the failed attempt are freed only with its error.
            gc.collect()
            empty_caches()
            tried = part.stop - part.start
            if tried == 1:
                raise MemoryError("out of memory, with one image at a time")
            self.size = tried // 2

    def at_once(self, run: Callable[[int], Result]) -> Result:
        """Runs once, with as many examples at a time as fit into memory, and returns the result."""
        return next(self(lambda part: run(part.stop), self.size))
