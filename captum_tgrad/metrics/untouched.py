"""What running a model may change, kept as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

# What torch.nn has that is different in training mode, itself or through its dropout.
_MINDFUL = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def training_modules(forward_func: Any) -> list[str]:
    """The names of the modules in training mode that may behave otherwise than in evaluation.

    Everything but torch's own layers may, as far as can be known.
    """
    if not isinstance(forward_func, nn.Module):
        return []
    return [
        name or type(module).__name__
        for name, module in forward_func.named_modules()
        if module.training
        and (isinstance(module, _MINDFUL) or not type(module).__module__.startswith("torch.nn."))
    ]


@contextmanager
def untouched(forward_func: Any, device: torch.device) -> Iterator[None]:
    """No gradients, and afterwards the random state and the model's buffers as before.

    Only a model in training mode changes its buffers, as batch norm does: only then are they
    copied.
    """
    kept = []
    if isinstance(forward_func, nn.Module) and any(m.training for m in forward_func.modules()):
        kept = [(buffer, buffer.detach().clone()) for buffer in forward_func.buffers()]
    devices = [device] if device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for buffer, before in kept:
                buffer.copy_(before)
