"""Scores images in bfloat16."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

_SCORE_DTYPES = (torch.float32, torch.bfloat16)


def check_score_dtype(dtype: Any, model: nn.Module, device: torch.device) -> None:
    """Raises ValueError unless the passes can run in this precision."""
    if dtype not in _SCORE_DTYPES:
        known = " or ".join(map(str, _SCORE_DTYPES))
        raise ValueError(f"score_dtype must be {known}, got {dtype!r}.")
    if dtype == torch.float32:
        return
    for name, each in model.named_parameters():
        if each.is_floating_point() and each.dtype != torch.float32:
            raise ValueError(
                f"score_dtype={dtype} needs a model in float32, but its {name!r} is in"
                f" {each.dtype}: call model.float(), or use score_dtype=torch.float32, which keeps"
                " the dtype of the model."
            )
    with warnings.catch_warnings():
        # Without support, torch raises an error on some devices, and only warns on others.
        warnings.simplefilter("ignore")
        try:
            with torch.autocast(device.type, dtype):
                works = torch.is_autocast_enabled(device.type)
        except RuntimeError:
            works = False
    if not works:
        raise ValueError(
            f"score_dtype={dtype} is not supported by autocast on {device.type}: use torch.float32"
            " (--score-dtype float32)."
        )


class Autocast(nn.Module):
    """A model whose forward passes run under autocast, which does not change the model.

    A bfloat16 copy would need memory, and is faster only for many weights, as in VGG-16's linear
    layers, which autocast converts in every pass (``benchmarks/score_dtype.py``). It is a module so
    that the metrics find the model's buffers.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype
        self.training = False  # like the model, which the caller has checked

    def forward(self, inputs: Tensor) -> Any:
        """The output of the model, with autocast on the device of the inputs."""
        # Inside the user's own autocast, a cache would outlive this call, and its converted weights
        # have no gradient.
        with torch.autocast(inputs.device.type, self._dtype, cache_enabled=False):
            return self.model(inputs)
