"""The names that the package imports from Captum, most of them private.

Captum is not marked as typed, so type checkers treat its objects as ``Any``. The types in public
signatures are therefore repeated here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from captum._utils.common import _format_additional_forward_args as format_additional_forward_args
from captum._utils.common import _format_output as format_output
from captum._utils.common import _select_targets as select_targets
from captum.attr._utils.attribution import Attribution, GradientAttribution, LayerAttribution
from captum.log import log_usage as captums_log_usage
from torch import Tensor

__all__ = [
    "Attribution",
    "GradientAttribution",
    "LayerAttribution",
    "TargetType",
    "TensorOrTupleOfTensorsGeneric",
    "format_additional_forward_args",
    "format_output",
    "log_usage",
    "select_targets",
]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

TensorOrTupleOfTensorsGeneric = TypeVar("TensorOrTupleOfTensorsGeneric", Tensor, tuple[Tensor, ...])

TargetType = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None


def log_usage(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Captum's ``log_usage()``, which keeps the signature for type checkers.

    ``NoiseTunnel`` and other methods of Captum call ``attribute.__wrapped__``, which this adds.
    """
    logged: Callable[Parameters, Result] = captums_log_usage()(function)
    return logged
