"""Lets the trace see the operations inside functions that torch implements in Python."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


@lru_cache(maxsize=256)
def without_override_check(func: Callable[..., Any]) -> Callable[..., Any] | None:
    """A copy of a Python function without its check for overrides; None if it has no check.

    With the check, the function would only call the active trace again. Without it, the body runs,
    and the trace sees the operations in it.
    """
    if not isinstance(func, types.FunctionType):
        return None
    guards = [guard for guard in _GUARDS if guard in func.__globals__]
    if not any(guard in func.__code__.co_names for guard in guards):
        return None
    unguarded = {**func.__globals__, **dict.fromkeys(guards, lambda *arguments: False)}
    copy = types.FunctionType(
        func.__code__, unguarded, func.__name__, func.__defaults__, func.__closure__
    )
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy
