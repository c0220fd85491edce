"""Handles tensors made under ``torch.inference_mode``, which autograd cannot save."""

from __future__ import annotations

from typing import Any

import torch

from captum_tgrad.decomposition.nested import map_tensors


def usable_in_backward(value: Any) -> Any:
    """``value`` with copies of tensors made under inference_mode, which autograd can save."""
    with torch.inference_mode(False):
        return map_tensors(
            value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor
        )
