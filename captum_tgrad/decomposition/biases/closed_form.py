"""What a closed form of a bias is, and what it shares with others.

A closed form is a function from a call and its output to the operation's bias, or to None where it
is zero: the operation is homogeneous of degree one, ``op(a z) = a op(z)`` for ``a > 0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias
from captum_tgrad.decomposition.call import Call

ClosedForm = Callable[[Call, Tensor], "Bias | None"]


class NoClosedFormError(Exception):
    """This form of the call has none: the one rule applies."""


def require_constant(*parameters: Any) -> None:
    """Refuses a call in which one of these depends on the input, too."""
    if any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in parameters):
        raise NoClosedFormError
