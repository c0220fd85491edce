"""What a feature is: a place of an image, a signal or a volume, or a column of a table.

``(N, C, *spatial)`` has one feature for each place, all channels together; ``(N, F)`` has one for
each column. Flattened, both are ``(N, C, features)``, with ``C = 1`` for a table.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spatial_shape(tensor: Tensor) -> torch.Size:
    """The sizes along which ``tensor`` has features; those of a map of it."""
    if tensor.dim() == 1:  # one number per sample is one feature
        return torch.Size([1])
    return tensor.shape[2:] if tensor.dim() > 2 else tensor.shape[1:]


def by_feature(tensor: Tensor) -> Tensor:
    """``tensor`` as ``(N, C, features)``: a view where it came from ``empty_examples``."""
    if tensor.dim() > 2:
        return tensor.flatten(2)
    return tensor.reshape(tensor.shape[0], 1, -1)


def empty_examples(count: int, like: Tensor) -> Tensor:
    """Room for ``count`` examples shaped like those of ``like``, in its memory format."""
    memory_format = {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.dim())
    # A tensor of one channel, or of one place, has both formats: then the default is meant.
    if (
        memory_format is None
        or like.is_contiguous()
        or not like.is_contiguous(memory_format=memory_format)
    ):
        memory_format = torch.contiguous_format
    return torch.empty(
        count, *like.shape[1:], dtype=like.dtype, device=like.device, memory_format=memory_format
    )
