"""Recognizes out-of-memory errors of torch, Python and the operating system; splits batches."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from captum_tgrad._support.accelerator import empty_caches

Result = TypeVar("Result")

_MESSAGES = (
    "DefaultCPUAllocator",  # The CPU's allocator has no class of its own.
    "out of memory",  # CUDA, MPS and XPU, where they raise no OutOfMemoryError
    "_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN
    "std::bad_alloc",
    "Cannot allocate memory",  # mmap, also of a file of weights
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an out-of-memory error of a device, Python or the CPU allocator.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("size mismatch"))
        (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _MESSAGES)


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
