"""The precision of the forward passes that score images.

In bfloat16 they run under ``torch.autocast``, which does not change the model. A bfloat16 copy of
the model would need memory, and is faster only for many weights, as in VGG-16's linear layers,
which autocast converts in every pass (``benchmarks/score_dtype.py``).
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

_KNOWN = (torch.float32, torch.bfloat16)


class Autocast(nn.Module):
    """A model whose forward passes run under autocast.

    It is a module so that the metrics find the model's buffers.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self._dtype = model, dtype
        self.training = False  # like the model, which the caller has checked

    def forward(self, inputs: Tensor) -> Any:
        """What the model returns for inputs on the device to compute on."""
        # Without the cache: inside an autocast of the user's it would outlive this call, and its
        # weights, which were converted here, have no gradient.
        with torch.autocast(inputs.device.type, self._dtype, cache_enabled=False):
            return self.model(inputs)


def scoring_model(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The model as it is for float32, and under autocast for bfloat16."""
    return model if dtype == torch.float32 else Autocast(model, dtype)


def check_score_dtype(dtype: Any, model: nn.Module, device: torch.device) -> None:
    """Raises ValueError unless the passes can run in this precision."""
    if dtype not in _KNOWN:
        known = " or ".join(map(str, _KNOWN))
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
    if not _can_autocast(dtype, device):
        raise ValueError(
            f"score_dtype={dtype} is not supported by autocast on {device.type}: use torch.float32"
            " (--score-dtype float32)."
        )


def _can_autocast(dtype: torch.dtype, device: torch.device) -> bool:
    try:
        with warnings.catch_warnings():
            # Without support, torch raises an error on some devices, and only warns on others.
            warnings.simplefilter("ignore")
            with torch.autocast(device.type, dtype):
                return torch.is_autocast_enabled(device.type)
    except RuntimeError:
        return False
