"""Avoids an error of torch: on a CPU, its batch norms misread the memory of some tensors."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

BATCH_NORMS = {"batch_norm", "native_batch_norm", "instance_norm"}
"""Operations that run a batch norm."""


def is_misread(tensor: Tensor) -> bool:
    """Whether torch's backward pass of a batch norm may misread its input or a gradient.

    On a CPU, the strides of a tensor with a dimension of size 1 may be those of a contiguous or a
    channels-last tensor except for this dimension, as after a transpose of tokens. torch then takes
    one of the two for contiguous and the other for channels-last.
    """
    return tensor.is_cpu and _is_ambiguous(tensor.shape, tensor.stride())


@lru_cache(maxsize=1024)
def _is_ambiguous(shape: torch.Size, strides: tuple[int, ...]) -> bool:
    dims = range(len(shape))
    channels_last = [0, *dims[2:], *dims[1:2]]
    return 1 in shape and not any(
        all(
            strides[dim] == math.prod(shape[d] for d in order[number:])
            for number, dim in enumerate(order, 1)
        )
        for order in (dims, channels_last)
    )


def readable(gradient: Tensor | None) -> Tensor | None:
    """A hook at the output of a batch norm: a copy of a gradient that torch would misread."""
    if gradient is None or not is_misread(gradient):
        return None
    return gradient.clone(memory_format=torch.contiguous_format)
