"""Keeps the running statistics of norms, which a norm in training mode updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.torch_functions import operation_name

_NORMS = {
    "batch_norm", "instance_norm", "native_batch_norm", "native_batch_norm_legit",
    "batch_norm_impl_index", "batch_norm_with_update", "cudnn_batch_norm", "miopen_batch_norm",
}  # fmt: skip


def is_norm(func: Callable[..., Any]) -> bool:
    """Whether a torch function is a norm that may update running statistics."""
    return operation_name(func) in _NORMS


def without_updates(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a norm, with copies of the running statistics that it would update."""
    named = (kwargs[name] for name in ("training", "use_input_stats") if name in kwargs)
    updates = next(iter((*args[5:6], *named)), func is not F.batch_norm)
    if not updates:
        return args, kwargs
    args, kwargs = map_tensors(
        (args, kwargs),
        lambda tensor: tensor if tensor.requires_grad or tensor.dim() > 1 else tensor.clone(),
    )
    return args, kwargs


class KeptStatistics(TorchFunctionMode):
    """A context in which norms update copies of their running statistics."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if is_norm(func):
            args, kwargs = without_updates(func, args, kwargs)
        return func(*args, **kwargs)
