"""What a record of an operation holds."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import REQUIRED, Call, NoRuleError
from captum_tgrad.decomposition.in_place import OldValues
from captum_tgrad.decomposition.places.places import Places

ClosedForm = Callable[[Call, Tensor], "Bias | None"]
"""From a call and one of its outputs to the operation's bias; None where it is zero."""

PlacesRule = Callable[[Call, Sequence[Tensor]], "list[Places]"]
"""From a call and its outputs to the places of each of them."""

Form = Callable[[Call, OldValues], Tensor]
"""Runs a call in another form, which has the same result and costs less."""


@dataclass(frozen=True)
class Operation:
    """What is known of an operation.

    Args:
        places: How the places of its arguments become those of its outputs; None: found by trying.
        bias: Its ``b`` in closed form; None: by the one rule.
        parameters: Its parameters in order, with their defaults; needed by rules that read them.
        reads_input: Whether ``bias`` reads its first argument, which an in-place form overwrites.
        form: An equal form that costs less.
        fill: The positions of numbers that are filled in, which have no place.
    """

    places: PlacesRule | None = None
    bias: ClosedForm | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reads_input: bool = False
    form: Form | None = None
    fill: Collection[int] = ()


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
    if any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in parameters):
        raise NoRuleError


def require_one_dependent(call: Call) -> None:
    """Refuses a call in which more than its first tensor depends on the input."""
    require_constant(*call.tensors[1:])


def in_its_form(call: Call, operation: Operation | None, old_values: OldValues) -> Any:
    """What the call returns, from its equal form if it has one.

    Args:
        call: The call.
        operation: The record of its operation.
        old_values: Is told what the backward pass reads that may yet be overwritten.
    """
    if operation is not None and operation.form is not None and _is_plain(call.args):
        try:
            return operation.form(call, old_values)
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
