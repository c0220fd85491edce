"""Memory for products that are summed at once and then forgotten."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Lends the same memory to one block after the other.

    On a CPU, fresh memory for every product costs more than the product: the system has to clear
    it, and it is not in the cache. Other devices have allocators that keep memory.

    Args:
        elements: The largest product that is worth keeping memory for.
        least: The smallest one.
    """

    def __init__(self, elements: int, least: int = 0) -> None:
        self._elements = elements
        self._least = least
        self._memory: dict[torch.dtype, Tensor] = {}

    def like(self, tensor: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Memory of the tensor's shape, laid out as it is; what it holds is valid until the next.

        Args:
            tensor: What the product will be shaped like.
            dtype: The product's type.

        Returns:
            An uninitialized tensor for ``out=``, or None where fresh memory is as good.
        """
        size = tensor.numel()
        if not self._least <= size <= self._elements or not tensor.is_cpu:
            return None
        memory = self._memory.get(dtype)
        if memory is None or memory.numel() < size:
            memory = self._memory[dtype] = torch.empty(size, dtype=dtype)
        if _is_dense(tensor):
            return memory.as_strided(tensor.shape, tensor.stride())
        return memory[:size].view(tensor.shape)


def _is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie one beside the other, each in a place of its own."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True
