"""The layout of inputs: channels first, in the memory format of the user's tensors.

Features are the positions of an image, a signal or a volume, or the columns of a table:
``(N, C, *spatial)`` has one for each position, all channels together; ``(N, F)`` has one for each
column.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def channels_first(tensor: Tensor, channel_dim: int | None) -> Tensor:
    """A view of ``tensor`` as ``(N, C, *spatial)``; with one channel if it has none."""
    if channel_dim == 1:
        return tensor
    return tensor.unsqueeze(1) if channel_dim is None else tensor.movedim(channel_dim, 1)


def channels_back(tensor: Tensor, channel_dim: int | None) -> Tensor:
    """A view of ``tensor``, ``(N, C, *spatial)``, with the channels in ``channel_dim``."""
    if channel_dim == 1:
        return tensor
    return tensor.squeeze(1) if channel_dim is None else tensor.movedim(1, channel_dim)


def by_feature(tensor: Tensor) -> Tensor:
    """``tensor`` as ``(N, C, features)``: a view if it came from ``empty_examples``."""
    if tensor.dim() > 2:
        return tensor.flatten(2)
    return tensor.reshape(tensor.shape[0], 1, -1)


def empty_examples(count: int, like: Tensor, channel_dim: int | None = 1) -> Tensor:
    """An empty tensor ``(count, C, *spatial)`` for examples like those of ``like``.

    With the channels back in ``channel_dim``, it has the memory format of ``like``, or is
    contiguous.
    """
    kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    # A tensor with one channel or one place has both formats: the default comes first.
    for memory_format in (
        torch.contiguous_format,
        {4: torch.channels_last, 5: torch.channels_last_3d}.get(like.dim()),
    ):
        if memory_format is not None and like.is_contiguous(memory_format=memory_format):
            return torch.empty(count, *like.shape[1:], memory_format=memory_format, **kind)
    sizes = channels_back(like, channel_dim).shape[1:]
    return channels_first(torch.empty(count, *sizes, **kind), channel_dim)
