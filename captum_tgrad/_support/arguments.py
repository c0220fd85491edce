"""Checks of single arguments, and what messages say about a wrong one."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
from torch import Tensor


def check_number(value: Any, name: str) -> float:
    """The number; raises TypeError unless it is one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}.")
    return int(value) if isinstance(value, Integral) else float(value)


def check_numbers(values: Any, name: str) -> list[float]:
    """The numbers of a list; raises TypeError unless all of them are numbers."""
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(f"{name} must be a list of numbers, also for a single one, got {values!r}.")
    return [check_number(value, name) for value in values]


def check_count(value: Any, name: str, least: int = 1) -> int:
    """The integer; raises TypeError or ValueError unless it is at least ``least``, 1 or 0."""
    wanted = "a positive integer" if least else "an integer of 0 or more"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be {wanted}, got {type(value).__name__}.")
    if value < least:
        raise ValueError(f"{name} must be {wanted}, got {value}.")
    return int(value)


def check_choice(value: Any, choices: Any, name: str) -> None:
    """Raises ValueError unless ``value`` is one of the values of a ``Literal``."""
    known = get_args(choices)
    if value not in known:
        *others, last = map(repr, known)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, got {value!r}.")


def check_sample(sample: int, samples: int) -> None:
    """Raises TypeError or ValueError unless ``sample`` is the index of one of the samples."""
    if isinstance(sample, bool) or not hasattr(sample, "__index__"):
        raise TypeError(f"sample must be an integer, got {type(sample).__name__}")
    if not 0 <= sample < samples:
        raise ValueError(f"sample {sample} is out of range: pass 0 to {samples - 1}")


def got(value: Any) -> str:
    """The type of a value, and how to convert it to a tensor, for messages.

    Example:
        >>> got(np.zeros(2)), got("a")
        ('a NumPy array: convert it with torch.from_numpy', 'str')
    """
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, np.ndarray):
        return "a NumPy array: convert it with torch.from_numpy"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__}: convert it with torch.as_tensor or torch.stack"
    if callable(getattr(value, "attribute", None)):
        name = type(value).__name__
        return f"a {name}: pass the result of its attribute(inputs, target=...)"
    return type(value).__name__
