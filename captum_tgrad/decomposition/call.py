"""One call of a torch function, as the trace sees it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from torch import Tensor


@cache
def operation_name(func: Callable[..., Any]) -> str:
    """The operation's plain name: ``add`` for ``torch.add``, ``Tensor.add_`` and ``__iadd__``."""
    name = getattr(func, "__name__", type(func).__name__)
    if name == "__get__":  # a property such as ``x.T``
        return str(getattr(func.__self__, "__name__", name))  # type: ignore[attr-defined]
    if name.startswith("__i") and name[3:-2] in _IN_PLACE_OPERATORS:
        return str(name[3:-2])
    return str(name.strip("_"))


_IN_PLACE_OPERATORS = {
    "add", "sub", "mul", "matmul", "truediv", "div", "pow", "floordiv", "mod",
    "and", "or", "xor", "lshift", "rshift",
}  # fmt: skip


def tensors_in(*values: Any) -> list[Tensor]:
    """The tensors among (nested) arguments, in order."""
    found: list[Tensor] = []
    _collect(values, found)
    return found


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            _collect(value, found)
        elif isinstance(value, dict) and value:
            _collect(value.values(), found)


_MAY_HOLD_TENSORS = (Tensor, tuple, list, dict)


def map_tensors(value: Any, replace: Callable[[Tensor], Tensor]) -> Any:
    """``value`` with every tensor in it replaced."""
    if isinstance(value, Tensor):
        return replace(value)
    if isinstance(value, (tuple, list)):
        items = [
            map_tensors(item, replace) if isinstance(item, _MAY_HOLD_TENSORS) else item
            for item in value
        ]
        if hasattr(value, "_fields"):  # a named tuple
            return type(value)(*items)
        return type(value)(items)
    if isinstance(value, dict):
        return {key: map_tensors(item, replace) for key, item in value.items()}
    return value


@dataclass
class Call:
    """``func(*args, **kwargs)``, with everything that is constant already detached.

    A tensor argument depends on the network's input exactly if it requires a gradient.

    Attributes:
        name: The operation's plain name.
        tensors: All tensor arguments.
        dependent: Those that depended on the network's input before the call was run.
        constant: Those that did not.
        shared: What several rules need and the first of them has computed.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __post_init__(self) -> None:
        self.name = operation_name(self.func)
        self.shared: dict[str, Any] = {}
        self.tensors = tensors_in(self.args, self.kwargs)
        self.dependent = [tensor for tensor in self.tensors if tensor.requires_grad]
        self.constant = [tensor for tensor in self.tensors if not tensor.requires_grad]

    def __call__(self) -> Any:
        """Runs the call."""
        return self.func(*self.args, **self.kwargs)

    def argument(self, position: int, keyword: str, default: Any = None) -> Any:
        """An argument given by position or by keyword."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(keyword, default)

    def sizes(self, position: int, keyword: str) -> tuple[int, ...]:
        """Integers given one by one from ``position`` on, as one sequence, or as one integer."""
        given = self.args[position:] or (self.kwargs.get(keyword),)
        if len(given) == 1 and isinstance(given[0], (tuple, list)):
            given = tuple(given[0])
        return tuple(item for item in given if isinstance(item, int))

    @cached_property
    def in_place(self) -> bool:
        """Whether the call overwrites its first argument."""
        name = getattr(self.func, "__name__", "")
        if name == "__setitem__" or (name.startswith("__i") and name[3:-2] in _IN_PLACE_OPERATORS):
            return True
        if name.endswith("_") and not name.endswith("__"):
            return True
        if inspect.isfunction(self.func) and "inplace" in _parameters(self.func):
            position = _parameters(self.func).index("inplace")
            return bool(self.argument(position, "inplace", False))
        return False


def _parameters(func: Callable[..., Any]) -> tuple[str, ...]:
    if func not in _PARAMETERS:
        _PARAMETERS[func] = tuple(inspect.signature(func, follow_wrapped=False).parameters)
    return _PARAMETERS[func]


_PARAMETERS: dict[Callable[..., Any], tuple[str, ...]] = {}
