"""Torch functions: their plain names, whether they overwrite an argument, and what they call."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

from torch._ops import OpOverload, OpOverloadPacket


@cache
def operation_name(func: Callable[..., Any]) -> str:
    """The operation's plain name: ``add`` for ``torch.add``, ``Tensor.add_`` and ``__iadd__``."""
    if isinstance(func, (OpOverload, OpOverloadPacket)):
        namespace, name = native_name(func)
        return name.strip("_") if namespace in ("aten", "torchvision") else f"{namespace}.{name}"
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":  # a property such as ``x.T``
        return str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]
    if name in _IN_PLACE_OPERATORS:
        return str(name[3:-2])
    return str(name.strip("_"))


def native_name(func: OpOverload | OpOverloadPacket) -> tuple[str, str]:
    """The namespace and the name of a function of ``torch.ops``."""
    packet = func.overloadpacket if isinstance(func, OpOverload) else func
    namespace, _, name = packet._qualified_op_name.partition("::")
    return namespace, name


_IN_PLACE_OPERATORS = {
    "__iadd__", "__isub__", "__imul__", "__imatmul__", "__itruediv__", "__idiv__", "__ipow__",
    "__ifloordiv__", "__imod__", "__iand__", "__ior__", "__ixor__", "__ilshift__", "__irshift__",
}  # fmt: skip


def overwrites(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call overwrites its first argument, a tensor or a list of tensors."""
    always, position = _in_place_form(func)
    if position is None:
        return always
    if "dropout" in func.__name__ and kwargs.get("training") is False:
        return False  # it changes nothing
    return bool(args[position] if len(args) > position else kwargs.get("inplace", False))


@cache
def _in_place_form(func: Callable[..., Any]) -> tuple[bool, int | None]:
    """Whether a function always works in place, and the position of its ``inplace`` parameter."""
    if isinstance(func, OpOverload):
        return bool(func._schema.is_mutable), None
    name = getattr(func, "__name__", "")
    if name == "__setitem__" or name in _IN_PLACE_OPERATORS:
        return True, None
    if name.endswith("_") and not name.endswith("__"):
        return True, None
    if inspect.isfunction(func):
        parameters = list(inspect.signature(func, follow_wrapped=False).parameters)
        if "inplace" in parameters:
            return False, parameters.index("inplace")
    return False, None


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


_GUARDS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
