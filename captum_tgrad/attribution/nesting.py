"""Attributions that are begun inside of a hook while another one replaces a layer's activation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


class _Running(threading.local):
    """The layers whose activations are replaced in this thread at the moment."""

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []


_running = _Running()


@contextmanager
def replacing(layer: nn.Module) -> Iterator[None]:
    """A context in which the layer has a hook that replaces its activation."""
    _running.layers.append(layer)
    try:
        yield
    finally:
        _running.layers.pop()


def check_not_nested(forward_func: Any) -> None:
    """Refuses a model one of whose layers is being replaced: both attributions would be wrong.

    Raises:
        ValueError: So it is.
    """
    if not _running.layers or not isinstance(forward_func, nn.Module):
        return
    modules = {id(module) for module in forward_func.modules()}
    for layer in _running.layers:
        if id(layer) in modules:
            raise ValueError(
                "forward_func is in the middle of another attribution: this was called in a hook of"
                f" a model while LayerTGradAttribution replaces its layer ({type(layer).__name__})."
                " Compute one after the other, or of copy.deepcopy(model)."
            )
