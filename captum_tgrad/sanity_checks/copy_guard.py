"""Checks that a method explains the copy that is randomized, and no other model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

_ADVICE = (
    " It must construct the method from the model it receives and that model's modules, for example"
    " lambda copy: LayerGradCam(copy, copy.layer4)."
)


def check_method(method: Any, original: set[nn.Module]) -> None:
    """Raises TypeError or ValueError unless ``method`` is an attribution of the copy."""
    if not callable(getattr(method, "attribute", None)):
        raise TypeError(
            "attribution_factory must return a Captum attribution, an object with a method"
            f" 'attribute', got {type(method).__name__}."
        )
    if _holds(method, original):
        raise ValueError(
            "attribution_factory returned a method that holds modules of your model itself, which"
            " is never randomized." + _ADVICE
        )


def _holds(value: Any, modules: set[nn.Module], depth: int = 4) -> bool:
    if depth == 0:
        return False
    if isinstance(value, nn.Module):
        return value in modules
    if isinstance(value, (list, tuple)):
        return any(_holds(item, modules, depth - 1) for item in value)
    if isinstance(value, dict):
        return any(_holds(item, modules, depth - 1) for item in value.values())
    # A method may hold another one, as NoiseTunnel does.
    return hasattr(value, "attribute") and any(
        _holds(item, modules, depth - 1) for item in getattr(value, "__dict__", {}).values()
    )


class Mark:
    """Marks the modules of a model, and of every copy that a method makes of the model."""

    def __init__(self, model: nn.Module) -> None:
        for module in model.modules():
            vars(module)["_mark_of_the_copy"] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> Mark:
        return self

    def is_on(self, module: nn.Module) -> bool:
        """Whether a module has this mark."""
        return vars(module).get("_mark_of_the_copy") is self


@contextmanager
def only_the_copy_runs(original: set[nn.Module], mark: Mark) -> Iterator[None]:
    """A context in which the copy runs, and the user's model does not.

    Raises:
        ValueError: A module of the user's model is called, or no module of the copy is called
            before the context ends.
    """
    thread = threading.get_ident()
    ran = False

    def entered(module: nn.Module, inputs: Any) -> None:
        nonlocal ran
        if threading.get_ident() == thread and module in original:
            raise ValueError(
                "attribution_factory returned a method that calls your model itself, which is"
                " never randomized." + _ADVICE
            )
        ran = ran or mark.is_on(module)

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
