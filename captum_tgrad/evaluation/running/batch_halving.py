"""Work on a batch in smaller parts once the memory does not hold it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

Result = TypeVar("Result")


class Halving:
    """Runs something on parts of a batch, on smaller ones from then on if memory is short.

    Args:
        size: At most so many images at once.

    Attributes:
        size: How many at once now.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(
        self, run: Callable[[slice], Result], count: int
    ) -> Iterator[tuple[slice, Result]]:
        """Yields the parts and what ``run`` returned for them.

        Raises:
            MemoryError: One image alone does not fit. Whatever else ``run`` raises.
        """
        first = 0
        while first < count:
            part = slice(first, min(first + self.size, count))
            # The tensors of the failed attempt are freed only with its error.
            failed = False
            try:
                result = run(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            if failed:
                self._halve(part.stop - part.start)
                continue
            yield part, result
            first = part.stop

    def _halve(self, tried: int) -> None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried == 1:
            raise MemoryError("out of memory, with one image at a time")
        self.size = tried // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short: CUDA's, Python's or the CPU allocator's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    # Of the CPU's allocator, which has no class of its own.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
