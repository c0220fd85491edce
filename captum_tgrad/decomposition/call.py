"""One call of a torch function, and the record of its operation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from numbers import Integral
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.nested import PLAIN, map_tensors, tensors_in
from captum_tgrad.decomposition.places.rules.rule import NO_RULE, PlacesRule
from captum_tgrad.decomposition.torch_functions import operation_name, overwrites


class NoRuleError(Exception):
    """The rules in the record of an operation do not cover a call with these arguments."""


REQUIRED = object()
"""Stands for the default of a parameter that has none."""


@dataclass(frozen=True)
class Operation:
    """The record of an operation: its rules for places and bias, and other facts.

    Each rule may raise NoRuleError for a call that it does not cover.

    Args:
        places: Computes the places of what a call returned from those of its arguments. Where it
            does not, test runs of the operation find them.
        bias: Takes a call and one of its outputs and returns ``b`` in closed form, or None if it is
            zero. None: the one rule computes it.
        parameters: The parameters in order, with their defaults. ``Call.bound`` needs them.
        reads_input: Whether ``bias`` reads the first argument, which an in-place call overwrites.
        is_recurrent: Whether it is a recurrent layer or cell.
        form: Runs the call in an equivalent form, which is faster or saves values for ``bias``.
        form_of_large: Whether ``form`` is faster only if the inputs are large.
        parts: Runs the call as several simpler calls, which the trace sees and records.
        parts_if: Whether a call runs in its parts; None if every call does.
        fill: The positions and names of arguments that a call fills elements with. Numbers and
            constants among them have no place.
    """

    places: PlacesRule = NO_RULE
    bias: Callable[[Call, Tensor], Bias | None] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reads_input: bool = False
    is_recurrent: bool = False
    form: Callable[[Call, Any], Any] | None = None
    form_of_large: bool = False
    parts: Callable[[Call], Any] | None = None
    parts_if: Callable[[Call], bool] | None = None
    fill: Collection[int | str] = ()


NO_RECORD = Operation()


_ALIASES = {
    "axis": "dim", "dims": "dim", "keepdims": "keepdim", "self": "input", "x": "input",
    "x1": "input", "x2": "other", "mat2": "other", "vec2": "other", "tensor": "input",
    "vec": "other", "source": "src", "ord": "p", "exponent": "other",
}  # fmt: skip
"""Names that some torch functions give to parameters, and the names in the records."""


class ConstantsRead(IntEnum):
    """What the places of a call's results depend on in its constants."""

    NOTHING = 0
    NO_ZEROS = 1
    """That they have no zeros. If they had, they would select elements, as a permutation does."""
    VALUES = 2


def _as_plain(argument: Any) -> Any:
    """A NumPy integer as an int, so that rules can tell it from a sequence."""
    if type(argument) in PLAIN or isinstance(argument, (Tensor, tuple, list)):
        return argument
    return int(argument) if isinstance(argument, Integral) else argument


class Call:
    """``func(*args, **kwargs)``, with all constants detached.

    A tensor argument depends on the network's input if and only if it requires a gradient.

    Attributes:
        name: The operation's plain name.
        record: The record of the operation.
        tensors: All tensor arguments, in order.
        dependent: The tensor arguments that depended on the network's input before the call ran.
        constant: The other tensor arguments.
        shared: Values that several rules need. The first one that needs a value stores it.
        returned: The tensors that the call returned, once it has run.
        constants_read: What the places of its results depend on in its constants.
        selects_elements: Whether indices, or a constant matrix by its zeros, select the elements
            that it adds up, as a permutation matrix does.
    """

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        record: Operation = NO_RECORD,
        tensors: list[Tensor] | None = None,
        dependent: list[Tensor] | None = None,
    ) -> None:
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.record = record
        self.name = operation_name(func)
        self.tensors = tensors_in(args, kwargs) if tensors is None else tensors
        if dependent is None:
            dependent = [tensor for tensor in self.tensors if tensor.requires_grad]
        self.dependent = dependent
        self.shared: dict[str, Any] = {}
        self.returned: list[Tensor] = []
        self.constants_read = ConstantsRead.NOTHING
        self.selects_elements = False
        self._bound: dict[str, Any] | None = None

    @property
    def constant(self) -> list[Tensor]:
        """The tensor arguments that did not depend on the network's input."""
        return [tensor for tensor in self.tensors if not tensor.requires_grad]

    @property
    def filled(self) -> dict[int | str, Any]:
        """The arguments that the call fills elements with, by position or name."""
        every: dict[int | str, Any] = dict(enumerate(self.args))
        every.update(self.kwargs)
        return {key: every[key] for key in self.record.fill if key in every}

    def __call__(self) -> Any:
        """Runs the call."""
        return self.func(*self.args, **self.kwargs)

    def run_on(self, replace: Callable[[Tensor], Any]) -> list[Tensor]:
        """Runs the call on other tensors, of which it overwrites only a copy."""
        args, kwargs = map_tensors((self.args, self.kwargs), replace)
        if self.in_place:
            args = (args[0].clone(), *args[1:])
        result = self.func(*args, **kwargs)
        return tensors_in(args[0] if result is None else result)

    def with_first(self, first: Tensor) -> Call:
        """The call with another first argument."""
        return Call(self.func, (first, *self.args[1:]), self.kwargs, self.record)

    def closed_forms(self, outputs: Sequence[Tensor]) -> list[Bias | None] | None:
        """The bias of each output by the record's closed form; None if it has none for the call."""
        if self.record.bias is None:
            return None
        try:
            biases = [self.record.bias(self, output) for output in outputs]
        except NoRuleError:
            return None
        for bias, output in zip(biases, outputs, strict=True):
            if bias is not None and output.is_complex():
                return None  # closed forms hold for real numbers only
        return biases

    @property
    def bound(self) -> dict[str, Any]:
        """The arguments and defaults, by the parameter names in the operation's record.

        Raises:
            NoRuleError: The arguments do not fit the record.
        """
        if self._bound is None:
            self._bound = self._bind()
        return self._bound

    def _bind(self) -> dict[str, Any]:
        parameters = self.record.parameters
        if not parameters or len(self.args) > len(parameters):
            raise NoRuleError
        bound = dict(zip(parameters, map(_as_plain, self.args), strict=False))
        for name, value in self.kwargs.items():
            own = name if name in parameters else _ALIASES.get(name, name)
            if own in bound:
                raise NoRuleError
            bound[own] = _as_plain(value)
        for name, default in parameters.items():
            if bound.setdefault(name, default) is REQUIRED:
                raise NoRuleError
        return bound

    @property
    def in_place(self) -> bool:
        """Whether the call overwrites its first argument, a tensor."""
        if not self.args or not isinstance(self.args[0], Tensor):
            return False
        return overwrites(self.func, self.args, self.kwargs)
