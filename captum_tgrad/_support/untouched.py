"""Keeps a model's buffers and the random state unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support.accelerator import forked_random_state

# Layers of torch.nn that behave differently in training mode, some through their dropout.
_BY_MODE = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
)


def training_modules(forward_func: Any) -> list[str]:
    """The names of the modules in training mode that may behave differently in evaluation mode.

    Of torch's own layers, only some may; any other module may.
    """
    if not isinstance(forward_func, nn.Module):
        return []
    return [
        name or type(module).__name__
        for name, module in forward_func.named_modules()
        if module.training
        and (isinstance(module, _BY_MODE) or not type(module).__module__.startswith("torch.nn."))
    ]


@contextmanager
def untouched(forward_func: Any, device: torch.device) -> Iterator[None]:
    """A context without gradients that restores the random state and the model's buffers on exit.

    Only a module's buffers are known; a function does not expose its own. They are also restored in
    evaluation mode, since a user's module may write to them then. Version counters do not help:
    neither batch norm nor writes through ``.data`` count. Buffers are small compared to the
    parameters: copying and comparing them costs less than one of the many passes of a metric.
    """
    modules = forward_func.modules() if isinstance(forward_func, nn.Module) else ()
    with torch.no_grad(), forked_random_state(device):
        saved = [
            (module, name, buffer, None if buffer is None else buffer.detach().clone())
            for module in modules
            for name, buffer in module._buffers.items()
        ]
        try:
            yield
        finally:
            for each in saved:
                _restore(*each)


def _restore(module: nn.Module, name: str, buffer: Tensor | None, before: Tensor | None) -> None:
    # If the model assigned another tensor to this name, the original one comes back.
    module._buffers[name] = buffer
    # Unchanged buffers are not written to: some cannot be, such as expanded ones. Sparse ones
    # cannot be compared.
    if buffer is None or before is None or buffer.layout != torch.strided:
        return
    if not torch.equal(buffer, before):
        # Through .data: autograd would refuse a pending backward pass of the user's after a write.
        buffer.data.copy_(before)
