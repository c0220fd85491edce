"""Helpers to write records of operations, and to check calls."""

from __future__ import annotations

import ast
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import REQUIRED, Call, NoRuleError, Operation
from captum_tgrad.decomposition.in_place import OldValues


def records(names: str, parameters: str = "", **known: Any) -> dict[str, Operation]:
    """Makes one record for several operations.

    Args:
        names: The operations' plain names, separated by spaces.
        parameters: The parameters as in a signature, such as ``"input, dim=None"``.
        known: Further arguments of :class:`Operation`.
    """
    operation = Operation(parameters=_parsed(parameters), **known)
    return dict.fromkeys(names.split(), operation)


def _parsed(parameters: str) -> dict[str, Any]:
    parsed = {}
    for parameter in filter(None, parameters.split(", ")):
        name, equals, default = parameter.partition("=")
        parsed[name] = ast.literal_eval(default) if equals else REQUIRED
    return parsed


def require_constant(*parameters: Any) -> None:
    """Raises NoRuleError if one of the parameters depends on the input."""
    for tensor in parameters:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            raise NoRuleError


def require_one_dependent(call: Call) -> None:
    """Raises NoRuleError if a tensor other than the first depends on the input."""
    require_constant(*call.tensors[1:])


def run_equal_form(call: Call, old_values: OldValues) -> Any:
    """Runs a call as its record says, in an equal form, or as it is.

    Args:
        call: The call.
        old_values: Registers the tensors that the backward pass reads and that may be overwritten.

    Returns:
        The result of the call.
    """
    if call.record.run is not None:
        return call.record.run(call, old_values)
    if call.record.form is not None and _is_plain(call.args):
        try:
            return call.record.form(call, old_values)
        except NoRuleError:
            pass
    return call()


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether the equal form of a call is faster, as measured: on a CPU, in full precision."""
    return (
        bool(args)
        and type(args[0]) is Tensor
        and args[0].is_cpu
        and args[0].dtype in (torch.float32, torch.float64)
    )
