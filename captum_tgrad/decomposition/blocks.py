"""A large activation in blocks, and what their sums have to do with each other.

On a CPU, products of the size of a large activation cost more to allocate, write and read back than
to compute. Those of a block stay in memory that is used again, and in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.layouts.dim import Axis, Dim
from captum_tgrad.decomposition.layouts.layout import Layout
from captum_tgrad.decomposition.layouts.plan import plan_of

# Four megabytes in float32: of the powers of two about the fastest on two threads, which smaller
# blocks keep waiting for each other and larger ones drive out of the cache.
ELEMENTS_OF_A_BLOCK = 2**20


@dataclass(frozen=True)
class Split:
    """Blocks of ``length`` along one dimension.

    Args:
        dim: The dimension.
        length: How much of it is in one block; the last one may be shorter.
        axis: The axis of the input that the dimension is; None if it is summed over.
    """

    dim: int
    length: int
    axis: Axis | None

    @property
    def of_samples(self) -> bool:
        """Whether each block has samples of its own."""
        return self.axis is not None and self.axis.is_samples

    def layout(self, whole: Layout, length: int) -> Layout:
        """The layout of a block of that length."""
        part = Dim.channel(length) if self.axis is None else _part(self.axis, length)
        return (*whole[: self.dim], part, *whole[self.dim + 1 :])

    def join(self, blocks: list[Tensor], whole: Layout) -> Tensor:
        """The sums of the whole, shape ``(N, 1, *spatial)``, from those of the blocks."""
        if self.axis is None:
            return torch.stack(blocks).sum(0)
        if self.of_samples:
            return torch.cat(blocks)
        # A block of one cell has lost the dimension it was cut along.
        shape, dim = [plan_of(whole).samples, 1, *plan_of(whole).spatial], 2 + self.axis.index
        return torch.cat([_with_dim(block, shape, dim) for block in blocks], dim)


def split_of(tensor: Tensor, layout: Layout, elementwise: bool) -> Split | None:
    """How to cut an activation; None if it is small, on a GPU, or cannot be cut.

    Args:
        tensor: The activation.
        layout: Where its elements are.
        elementwise: Whether the elements of one sample can be treated on their own.
    """
    if not tensor.is_cpu or tensor.numel() <= ELEMENTS_OF_A_BLOCK:
        return None
    # Along the slowest dimension, a block is one piece of memory.
    for dim in sorted(range(tensor.dim()), key=tensor.stride, reverse=True):
        size = tensor.shape[dim]
        length = max(1, ELEMENTS_OF_A_BLOCK * size // tensor.numel())
        if size == 1 or length >= size:
            continue
        axis = layout[dim].axis
        if axis is not None and axis.is_samples:
            if not any(other.has_sample for other in layout[:dim] + layout[dim + 1 :]):
                return Split(dim, length, axis)
        elif elementwise and all(len(other.segments) == 1 for other in layout):
            if not layout[dim].follows_axis:
                return Split(dim, length, None)
            if axis is not None and _can_be_cut(axis, layout):
                return Split(dim, length, axis)
    return None


def _part(axis: Axis, length: int) -> Dim:
    return Dim.whole(Axis(axis.rank, axis.index, length))


def _can_be_cut(axis: Axis, layout: Layout) -> bool:
    """Whether the sums of the whole are those of the blocks along this axis, side by side."""
    in_order = axis.is_known and not axis.shift
    return in_order and not plan_of(layout).pads and _once(axis, layout)


def _once(axis: Axis, layout: Layout) -> bool:
    """Whether one dimension alone has the places of this axis."""
    factors = [factor for dim in layout for factor in dim.segments[0]]
    same = [
        factor
        for factor in factors
        if factor.axis is not None
        and (factor.axis.rank, factor.axis.index) == (axis.rank, axis.index)
    ]
    return len(same) == 1 and plan_of(layout).spatial != ()


def _with_dim(block: Tensor, shape: list[int], dim: int) -> Tensor:
    shape = list(shape)
    shape[dim] = -1
    return block.reshape(shape)
