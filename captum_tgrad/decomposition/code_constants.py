"""Marks the constants that a network computes from numbers in its code, which later calls repeat.

Other constants may depend on data, as ``x.detach().max()``.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

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
