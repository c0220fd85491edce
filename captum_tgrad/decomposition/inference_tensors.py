"""Tensors that were made under ``torch.inference_mode``, where autograd cannot save them."""

from __future__ import annotations

from typing import Any

import torch

from captum_tgrad.decomposition.call import map_tensors


def usable_in_backward(value: Any) -> Any:
    """``value`` with tensors made under inference_mode copied: only copies can be saved."""
    with torch.inference_mode(False):
        return map_tensors(
            value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor
        )
