"""Handles tensors made under ``torch.inference_mode``, which autograd cannot save."""

from __future__ import annotations

from typing import Any

import torch

from captum_tgrad.decomposition.call import map_tensors


def usable_in_backward(value: Any) -> Any:
    """``value`` with copies of tensors made under inference_mode, which autograd can save."""
    with torch.inference_mode(False):
        return map_tensors(
            value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor
        )


def refuse_inference_tensors(error: RuntimeError) -> None:
    """Raises ValueError if an error of torch is about tensors made under inference_mode."""
    if "nference tensor" in str(error):
        raise ValueError(
            "forward_func uses tensors that were made under torch.inference_mode, which autograd"
            " cannot save: parameters or buffers of a model that was built or loaded under it, or"
            " outputs of a part of the model that runs under it. Build the model outside of it, or"
            " pass copy.deepcopy(model), made outside of it; run parts under torch.no_grad()."
        ) from error
