"""How records of operations are written, and what they check."""

from __future__ import annotations

import ast
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import REQUIRED, Call, NoRuleError, Operation
from captum_tgrad.decomposition.in_place import OldValues


def records(names: str, parameters: str = "", **known: Any) -> dict[str, Operation]:
    """One record under several names.

    Args:
        names: The operations' plain names, separated by spaces.
        parameters: As in a signature: ``"input, dim=None"``.
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
    """Refuses a call in which one of these depends on the input, too."""
    for tensor in parameters:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            raise NoRuleError


def require_one_dependent(call: Call) -> None:
    """Refuses a call in which more than its first tensor depends on the input."""
    require_constant(*call.tensors[1:])


def in_its_form(call: Call, old_values: OldValues) -> Any:
    """What the call returns, from its equal form if it has one.

    Args:
        call: The call.
        old_values: Is told what the backward pass reads that may yet be overwritten.
    """
    if call.record.form is not None and _is_plain(call.args):
        try:
            return call.record.form(call, old_values)
        except NoRuleError:
            pass
    return call()


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether a call is of the kind whose equal form was measured to gain."""
    return (
        bool(args)
        and type(args[0]) is Tensor
        and args[0].is_cpu
        and args[0].dtype in (torch.float32, torch.float64)
    )
