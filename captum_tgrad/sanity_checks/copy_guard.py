"""Checks that a method explains the copy that is randomized, and no other model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils._pytree import tree_leaves

_MARK = "_mark_of_the_copy"
_ADVICE = (
    " It must construct the method from the model it receives and that model's modules, for example"
    " lambda copy: LayerGradCam(copy, copy.layer4)."
)


def checked_method(method: Any, original: set[nn.Module]) -> Any:
    """``method``; raises TypeError or ValueError unless it is an attribution of the copy."""
    if not callable(getattr(method, "attribute", None)):
        raise TypeError(
            "attribution_factory must return a Captum attribution, an object with a method"
            f" 'attribute', got {type(method).__name__}."
        )
    if not original.isdisjoint(_modules(method)):
        raise ValueError(
            "attribution_factory returned a method that holds modules of your model itself, which"
            " is never randomized." + _ADVICE
        )
    return method


def _modules(method: Any, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a method holds, also those of a method inside it, as in NoiseTunnel."""
    for value in tree_leaves(getattr(method, "__dict__", {})):
        if isinstance(value, nn.Module):
            yield value
        elif hasattr(value, "attribute") and depth > 1:
            yield from _modules(value, depth - 1)


def mark(model: nn.Module) -> None:
    """Marks the modules of the copy; copies that a method makes of them are marked, too."""
    for module in model.modules():
        vars(module)[_MARK] = True


@contextmanager
def only_the_copy_runs(original: set[nn.Module]) -> Iterator[None]:
    """A context that raises ValueError if the user's model runs in it, or the copy does not."""
    thread = threading.get_ident()
    ran = False

    def entered(module: nn.Module, inputs: Any) -> None:
        nonlocal ran
        if threading.get_ident() == thread and module in original:
            raise ValueError(
                "attribution_factory returned a method that calls your model itself, which is"
                " never randomized." + _ADVICE
            )
        ran = ran or _MARK in vars(module)

    handle = register_module_forward_pre_hook(entered)
    try:
        yield
    finally:
        handle.remove()
    if not ran:
        raise ValueError(
            "attribution_factory returned a method that never calls the model it was constructed"
            " with, so that its map cannot change." + _ADVICE
        )
