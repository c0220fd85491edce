"""Recognizes out-of-memory errors of torch, Python and the operating system."""

from __future__ import annotations

import errno

import torch

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
