"""Features: the positions of an image, a signal or a volume, or the columns of a table.

``(N, C, *spatial)`` has one feature for each position, all channels together; ``(N, F)`` has one
for each column. Flattened, both are ``(N, C, features)``, with ``C = 1`` for a table. For inputs
with channels in another dimension, functions expect the view that ``channels_first`` returns.
"""

from __future__ import annotations

import math
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


def count_of(share: float, features: int) -> int:
    """``floor(share * features)``, rounded first: 0.29 * 100 is 28.999999999999996 in floats."""
    return math.floor(round(share * features, 6))


def by_feature(tensor: Tensor) -> Tensor:
    """``tensor`` as ``(N, C, features)``: a view if it came from ``empty_examples``."""
    if tensor.dim() > 2:
        return tensor.flatten(2)
    return tensor.reshape(tensor.shape[0], 1, -1)


def empty_examples(count: int, like: Tensor, channel_dim: int | None = 1) -> Tensor:
    """An empty tensor for ``count`` examples like those of ``like``, in its memory format."""
    kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    first = channels_first(like, channel_dim)
    # A tensor with one channel or one place has both formats: the default comes first.
    for memory_format in (
        torch.contiguous_format,
        {4: torch.channels_last, 5: torch.channels_last_3d}.get(first.dim()),
    ):
        if memory_format is not None and first.is_contiguous(memory_format=memory_format):
            room = torch.empty(count, *first.shape[1:], memory_format=memory_format, **kind)
            return channels_back(room, channel_dim)
    return torch.empty(count, *like.shape[1:], **kind)
