"""Rejects attributions in a hook of a model whose activation another attribution replaces."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class _Running(threading.local):
    """The layers of this thread whose activations are currently replaced."""

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []


_running = _Running()


@contextmanager
def replacing(layer: nn.Module) -> Iterator[None]:
    """A context that registers a layer whose activation a hook replaces."""
    _running.layers.append(layer)
    try:
        yield
    finally:
        _running.layers.pop()


def check_not_nested(forward_func: Any) -> None:
    """Raises ValueError if an activation of a model is replaced: both maps would be wrong."""
    if not _running.layers or not isinstance(forward_func, nn.Module):
        return
    modules = {id(module) for module in forward_func.modules()}
    for layer in _running.layers:
        if id(layer) in modules:
            raise ValueError(
                "forward_func is in the middle of another attribution: a hook of the model called"
                " this one while LayerTGradAttribution replaces the activation of a"
                f" {type(layer).__name__}. Compute one after the other, or explain"
                " copy.deepcopy(model)."
            )
