"""Rejects attributions in a hook of a model whose activation another attribution replaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

_replaced: ContextVar[tuple[nn.Module, ...]] = ContextVar("_replaced", default=())
"""The layers whose activations are replaced in this thread."""


@contextmanager
def replacing(layer: nn.Module) -> Iterator[None]:
    """A context that registers a layer whose activation a hook replaces."""
    token = _replaced.set((*_replaced.get(), layer))
    try:
        yield
    finally:
        _replaced.reset(token)


def check_not_nested(forward_func: Any) -> None:
    """Raises ValueError if an activation of a model is replaced: both maps would be wrong."""
    layers = _replaced.get()
    if not layers or not isinstance(forward_func, nn.Module):
        return
    modules = set(forward_func.modules())
    for layer in layers:
        if layer in modules:
            raise ValueError(
                "A hook of forward_func called attribute() or decompose() while"
                f" LayerTGradAttribution replaces the activation of a {type(layer).__name__} of"
                " this model. Compute one attribution after the other, or explain"
                " copy.deepcopy(model) in the hook."
            )
