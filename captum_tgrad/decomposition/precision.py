"""Arithmetic in float32 or better, for networks of any dtype."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which arithmetic on ``tensor`` is not cast to half precision."""
    kind = tensor.device.type
    if _has_autocast(kind) and torch.is_autocast_enabled(kind):
        return torch.autocast(kind, enabled=False)
    return _unchanged


_unchanged = nullcontext()
_has_autocast = cache(torch.amp.is_autocast_available)


HALF = (torch.float16, torch.bfloat16)
"""The dtypes of half precision."""

FULL = (torch.float32, torch.float64)
"""The real dtypes of full precision."""


def in_full_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in float32 or better, because sums in half precision are inaccurate."""
    return tensor.float() if tensor.dtype in HALF else tensor


def in_double_precision(tensor: Tensor) -> Tensor:
    """``tensor`` in float64, or in float32 on a device without float64."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def without_nan(tensor: Tensor) -> Tensor:
    """A copy of ``tensor`` with 0 where it is NaN."""
    return tensor.nan_to_num(0, posinf=torch.inf, neginf=-torch.inf)
