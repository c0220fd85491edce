"""The layout of tensors in memory: views of a base tensor, and copies with the same strides."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out_as(base: Tensor, values: Tensor) -> Tensor:
    """A copy of ``values`` with the strides of ``base``."""
    return values.new_empty_strided(base.shape, base.stride()).copy_(values)


def numbers_of(tensor: Tensor) -> Tensor:
    """The memory of a tensor as real numbers; those of a complex tensor are pairs."""
    tensor = tensor.detach()
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.conj() if tensor.is_conj() else tensor)


def same_view_of(view: Tensor, base: Tensor, whole: Tensor) -> Tensor:
    """Takes the view of ``whole``, laid out as the numbers of ``base``, that ``view`` is of it."""
    part = numbers_of(view)
    offset = part.storage_offset() - numbers_of(base).storage_offset() + whole.storage_offset()
    return whole.as_strided(part.shape, part.stride(), offset)
