"""Reusable memory for products that are summed immediately."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Memory that is reused for one block after another.

    On a CPU, new memory for a product costs more than the product: the system clears it, and it is
    not in the cache. The allocators of other devices reuse memory themselves.

    Args:
        elements: The number of elements of the largest product to lend memory for.
        least: The number of elements of the smallest one.
    """

    def __init__(self, elements: int, least: int = 0) -> None:
        self._elements = elements
        self._least = least
        self._memory: dict[torch.dtype, Tensor] = {}

    def like(self, tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Uninitialized memory for ``out=`` with the shape and layout of a tensor.

        It is valid until the next call. None if new memory is as fast.
        """
        size = tensor.numel()
        if not self._least <= size <= self._elements or not tensor.is_cpu:
            return None
        memory = self._memory.get(dtype)
        if memory is None or memory.numel() < size:
            memory = self._memory[dtype] = torch.empty(size, dtype=dtype, device="cpu")
        if tensor.is_contiguous() or is_dense(tensor):
            return memory.as_strided(tensor.shape, tensor.stride())
        return memory[:size].view(tensor.shape)


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements fill a range of memory without gaps or shared addresses."""
    return bool(torch.ops.aten.is_non_overlapping_and_dense.default(tensor))
