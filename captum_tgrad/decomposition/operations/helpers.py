"""Helpers to write records of operations and to check calls."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import REQUIRED, Call, NoRuleError, Operation
from captum_tgrad.decomposition.copy_on_write import Readers
from captum_tgrad.decomposition.places.rules.rule import NO_RULE, PlacesRule
from captum_tgrad.decomposition.precision import FULL


def records(
    names: str, parameters: str = "", places: Any = None, bias: Any = None, **known: Any
) -> dict[str, Operation]:
    """Makes one record and returns it under the names of several operations.

    Args:
        names: The operations' plain names, separated by spaces.
        parameters: The parameters as in a signature, such as ``"input, dim=None"``.
        places: As for :class:`Operation`, or a function for a rule without further facts.
        bias: As for :class:`Operation`.
        known: Its other arguments.
    """
    rule = places if isinstance(places, PlacesRule) else PlacesRule(places) if places else NO_RULE
    operation = Operation(rule, bias, _parsed(parameters), **known)
    return dict.fromkeys(names.split(), operation)


def _parsed(parameters: str) -> dict[str, Any]:
    parsed = {}
    for parameter in filter(None, parameters.split(", ")):
        name, equals, default = parameter.partition("=")
        parsed[name] = ast.literal_eval(default) if equals else REQUIRED
    return parsed


def of_arguments(
    bias: Callable[..., Bias | None], *names: str
) -> Callable[[Call, Tensor], Bias | None]:
    """A closed form that is computed from these arguments, and not from the output."""
    return lambda call, output: bias(*(call.bound[name] for name in names))


def values_of(call: Call) -> list[Any]:
    """The arguments in the order of the record's parameters; raises NoRuleError for others."""
    bound = call.bound
    if bound.keys() != call.record.parameters.keys():  # such as ``out``
        raise NoRuleError
    return [bound[name] for name in call.record.parameters]


def require_constant(*parameters: Any) -> None:
    """Raises NoRuleError if one of the parameters depends on the input."""
    for tensor in parameters:
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            raise NoRuleError


def require_plain(call: Call) -> None:
    """Raises NoRuleError unless an equivalent form may be faster: on a CPU, in full precision."""
    first = call.args[0] if call.args else None
    if type(first) is not Tensor or not first.is_cpu or first.dtype not in FULL:
        raise NoRuleError


def run_equal_form(call: Call, readers: Readers) -> Any:
    """Runs a call in the equivalent form of its record, if there is one for it, else as it is.

    ``readers`` registers the tensors that the backward pass of this form reads.
    """
    if call.record.form is not None:
        try:
            return call.record.form(call, readers)
        except NoRuleError:
            pass
    return call()
