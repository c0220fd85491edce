"""Tells the probabilities of a classifier from logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def probabilities_of(outputs: Tensor) -> Tensor:
    """The softmax of logits ``(N, classes)``, in float32 or better; or the given probabilities."""
    values = at_least_float32(outputs)
    return values if are_probabilities(outputs) else values.softmax(1)


def are_probabilities(outputs: Any) -> bool:
    """Whether a model ends in a softmax: a second one would flatten its scores."""
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or outputs.shape[1] < 2:
        return False
    outputs = outputs[outputs.isfinite().all(1)]  # others may be left out
    if len(outputs) == 0:
        return False
    # Rounding changes a probability by at most half of this share of its value.
    rounding = torch.finfo(outputs.dtype).eps if outputs.is_floating_point() else 0.0
    outputs = at_least_float32(outputs)
    off = (outputs.sum(1) - 1).abs().max()
    return bool((outputs >= 0).all()) and bool(off < max(1e-3, rounding))


def at_least_float32(values: Tensor) -> Tensor:
    """Converts half precision and integers to float32, as scores are compared and added up."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
