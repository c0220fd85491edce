"""Constants that a network computes from numbers in its code, and the numbers that may change.

Other constants may depend on data, as ``x.detach().max()``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn

_MARK = "_captum_tgrad_from_code"
"""An attribute of a tensor, or of the base of a view: whether its values are those of the code."""


def is_from_code(tensor: Tensor) -> bool:
    """Whether a network has computed a tensor from numbers in its code only."""
    return bool(getattr(_base(tensor), _MARK, False))


def mark(results: Iterable[Tensor], arguments: Iterable[Tensor]) -> None:
    """Marks the results of a call, or the tensors that it overwrites, if all arguments are."""
    are_from_code = all(map(is_from_code, arguments))
    for each in map(_base, results):
        if are_from_code or hasattr(each, _MARK):
            setattr(each, _MARK, are_from_code)


def _base(tensor: Tensor) -> Tensor:
    return tensor if tensor._base is None else tensor._base


def numbers_of(
    forward: Callable[..., Any] | None, modules: Sequence[nn.Module]
) -> list[object] | None:
    """The numbers that a function and modules may read; None if there are too many to compare.

    They are attributes, also of nested objects such as a config, and variables of functions.
    """
    todo: list[Any] = [forward, *modules, *{type(module).forward for module in modules}]
    found: list[object] = []
    seen: set[int] = set()
    for value in todo:
        if isinstance(value, _NUMBERS):
            found.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            todo += _parts_of(value)
            if len(todo) > _MOST:
                return None
    return found


def _parts_of(value: Any) -> Iterable[Any]:
    """The values that code reads through another value."""
    if isinstance(value, FunctionType):
        return _variables_of(value)
    if isinstance(value, MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, nn.Module):
        return [each for name, each in vars(value).items() if name not in _OF_ALL_MODULES]
    if isinstance(value, _OPAQUE):
        return ()
    attributes: dict[str, Any] = getattr(value, "__dict__", {})
    return attributes.values()


def _variables_of(function: FunctionType) -> Iterator[Any]:
    """The variables outside of a function that it reads."""
    if str(function.__module__).startswith("torch."):
        return
    names = function.__code__.co_names
    yield from (function.__globals__[each] for each in names if each in function.__globals__)
    yield from (cell.cell_contents for cell in function.__closure__ or () if cell != CellType())


_MOST = 20_000
_NUMBERS = (int, float, np.number)
_OPAQUE = (str, Tensor, ModuleType, type, logging.Logger)
_OF_ALL_MODULES = vars(nn.Module()).keys()
