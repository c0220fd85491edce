"""Finds and replaces the tensors in nested arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any

import torch
from torch import Tensor

PLAIN = frozenset({int, float, bool, str, type(None)})
"""Types that hold no tensor. Most arguments have one; looking it up is faster than isinstance."""


def tensors_in(*values: Any) -> list[Tensor]:
    """The tensors among (nested) arguments, in order."""
    found: list[Tensor] = []
    _collect(values, found)
    return found


def _collect(values: Iterable[Any], found: list[Tensor]) -> None:
    for value in values:
        if type(value) in PLAIN:
            continue
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            _collect(value, found)
        elif isinstance(value, dict):
            _collect(value.values(), found)


def map_tensors(value: Any, replace: Callable[[Tensor], Any]) -> Any:
    """A copy of ``value`` in which every tensor is replaced."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Tensor):
        return replace(value)
    if type(value) is tuple and PLAIN.issuperset(map(type, value)):
        return value
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, replace) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        copied = copy(value)  # of its class, such as a defaultdict
        for key, item in value.items():
            copied[key] = map_tensors(item, replace)
        return copied
    return value


def own_containers(value: Any) -> Any:
    """``value`` with copies of its containers, for one run of a network that may change them."""
    return map_tensors(value, lambda tensor: tensor)


def usable_in_backward(value: Any) -> Any:
    """``value`` with copies of tensors made under inference_mode, which autograd can save."""
    with torch.inference_mode(False):
        return map_tensors(
            value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor
        )
