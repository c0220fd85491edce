"""One call of a torch function, as the trace sees it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Protocol

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
        elif isinstance(value, dict):
            _collect(value.values(), found)


_MAY_HOLD_TENSORS = (Tensor, tuple, list, dict)


def map_tensors(value: Any, replace: Callable[[Tensor], Any]) -> Any:
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


class NoRuleError(Exception):
    """The record of an operation does not foresee this form of a call."""


class Record(Protocol):
    """What a call has to know of its operation."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The operation's parameters and their defaults, ``REQUIRED`` without one."""

    @property
    def fill(self) -> Collection[int]:
        """The positions of numbers that are filled in."""


REQUIRED = object()

_ALIASES = {
    "axis": "dim", "dims": "dim", "keepdims": "keepdim", "self": "input", "x": "input",
    "x1": "input", "x2": "other", "mat2": "other", "vec2": "other", "tensor": "input",
    "vec": "other", "source": "src", "ord": "p", "exponent": "other",
}  # fmt: skip
"""Other names that torch knows of a parameter."""


@dataclass
class Call:
    """``func(*args, **kwargs)``, with everything that is constant already detached.

    A tensor argument depends on the network's input exactly if it requires a gradient.

    Attributes:
        name: The operation's plain name.
        tensors: All tensor arguments, in order.
        dependent: Those that depended on the network's input before the call was run.
        constant: Those that did not.
        shared: What several rules need and the first of them has computed.
        returned: The tensors that it returned, once it has run.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    record: Record | None = None
    tensors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = operation_name(self.func)
        self.shared: dict[str, Any] = {}
        self.returned: list[Tensor] = []
        self.tensors = self.tensors or tensors_in(self.args, self.kwargs)
        self.dependent = [tensor for tensor in self.tensors if tensor.requires_grad]
        self.constant = [tensor for tensor in self.tensors if not tensor.requires_grad]

    def __call__(self) -> Any:
        """Runs the call."""
        return self.func(*self.args, **self.kwargs)

    def with_first(self, first: Tensor) -> Call:
        """The call with another tensor in the place of its first argument."""
        return Call(self.func, (first, *self.args[1:]), self.kwargs, self.record)

    @cached_property
    def bound(self) -> dict[str, Any]:
        """The arguments by the names that the operation's record gives them.

        Raises:
            NoRuleError: They do not fit the record.
        """
        if self.record is None or not self.record.parameters:
            raise NoRuleError
        parameters = self.record.parameters
        if len(self.args) > len(parameters):
            raise NoRuleError
        bound = dict(zip(parameters, self.args, strict=False))
        for name, value in self.kwargs.items():
            own = name if name in parameters else _ALIASES.get(name, name)
            if own in bound:
                raise NoRuleError
            bound[own] = value
        for name, default in parameters.items():
            if bound.setdefault(name, default) is REQUIRED:
                raise NoRuleError
        return bound

    @cached_property
    def in_place(self) -> bool:
        """Whether the call overwrites its first argument."""
        if not self.args or not isinstance(self.args[0], Tensor):
            return False
        always, position = _overwrites(self.func)
        if position is None:
            return always
        if len(self.args) > position:
            return bool(self.args[position])
        return bool(self.kwargs.get("inplace", False))


@cache
def _overwrites(func: Callable[..., Any]) -> tuple[bool, int | None]:
    """Whether a function always overwrites its first argument, or where it has an ``inplace``."""
    name = getattr(func, "__name__", "")
    if name == "__setitem__" or (name.startswith("__i") and name[3:-2] in _IN_PLACE_OPERATORS):
        return True, None
    if name.endswith("_") and not name.endswith("__"):
        return True, None
    if inspect.isfunction(func):
        parameters = list(inspect.signature(func, follow_wrapped=False).parameters)
        if "inplace" in parameters:
            return False, parameters.index("inplace")
    return False, None
