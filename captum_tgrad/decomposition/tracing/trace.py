"""Traces a forward pass: handles every call of a torch function while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import Parameter, UninitializedParameter
from torch.overrides import TorchFunctionMode

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.call import NO_RECORD, Call, NoRuleError
from captum_tgrad.decomposition.checkpointing import without_checkpointing
from captum_tgrad.decomposition.maps.summing import Summing
from captum_tgrad.decomposition.nested import map_tensors, tensors_in
from captum_tgrad.decomposition.operations.grids import CONVOLUTIONS
from captum_tgrad.decomposition.operations.helpers import run_equal_form
from captum_tgrad.decomposition.operations.misread_norms import BATCH_NORMS, is_misread
from captum_tgrad.decomposition.operations.operation_table import operation_of
from captum_tgrad.decomposition.operations.running_statistics import is_norm, without_updates
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, samples_of
from captum_tgrad.decomposition.refusals import refuse_lost_gradients
from captum_tgrad.decomposition.replay.replay import are_small
from captum_tgrad.decomposition.torch_functions import (
    operation_name,
    overwrites,
    without_override_check,
)
from captum_tgrad.decomposition.tracing.folded_norms import FoldedNorms
from captum_tgrad.decomposition.tracing.in_place import run_in_place
from captum_tgrad.decomposition.tracing.recorder import Recorder
from captum_tgrad.decomposition.tracing.running_modules import raise_batch_statistics


class Trace(TorchFunctionMode):
    """A context that records every operation that depends on the inputs.

    The terms are complete after the backward pass that follows. Operations get detached parameters.
    A tensor therefore requires a gradient if and only if it depends on an input, and the backward
    pass computes no gradients of weights.

    Args:
        leaves: The inputs: leaf tensors that require a gradient.
        places: The places of the elements of each input.
        summing: Sums terms into cells. None: only places are recorded.
        folds_norms: Whether batch norms may run as parts of convolutions.

    Attributes:
        recorder: The records of the operations that have run.
        folded_norms: The batch norms that run as parts of convolutions.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        places: Sequence[Places],
        summing: Summing | None,
        folds_norms: bool = False,
    ) -> None:
        super().__init__()
        self.recorder = Recorder(leaves, places, summing)
        self._places = places
        self._has_small_inputs = are_small(leaves)
        self._origins = self.recorder.origins
        self._modules = self.recorder.modules
        self._hidden = self.recorder.hidden
        self._visible = self._hidden.visible
        self._readers = self.recorder.readers
        self.folded_norms = FoldedNorms(self._modules, self._hidden, folds_norms)

    def follow(self, leaves: Sequence[Tensor]) -> list[Tensor]:
        """Copies the inputs, because the network may overwrite them, and records their places."""
        followed = []
        for leaf, places in zip(leaves, self._places, strict=True):
            tensor = leaf.clone()
            self._origins.follow(tensor, places)
            followed.append(tensor)
        return followed

    def __enter__(self) -> Trace:
        self._modules.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        self._modules.__exit__(*exception)

    def _call_traced(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a function with the trace enabled, so that the operations inside are recorded."""
        super().__enter__()  # type: ignore[no-untyped-call]
        try:
            return func(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NOT_FOLLOWED:
            if func in _DIFFERENTIATE or func in _MAY_HOOK:
                args, kwargs = self.folded_norms.before_call(func, args, kwargs)
            if func in _DIFFERENTIATE:
                refuse_lost_gradients(func, args, kwargs, self._origins)
            elif func in _MAY_HOOK or (func == _REQUIRES_GRAD and type(args[0]) is Parameter):
                # A hook may change a gradient; in a replay, no parameter is frozen.
                self.recorder.is_shown_by_graph = False
            return func(*args, **kwargs)
        if UninitializedParameter in types:
            return func(*args, **kwargs)  # a lazy module creates its parameters
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)  # inside of a torch.func transform: a hidden operation
        args, kwargs = self.folded_norms.before_call(func, args, kwargs)
        self._visible.before_call()
        try:
            return self._handle(func, args, kwargs)
        finally:
            self._visible.after_call()

    def _handle(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs a call, and records it or the simpler calls that it consists of."""
        self._origins.run_deferred()
        if is_norm(func):
            self.recorder.calls_norms |= not isinstance(self._modules.innermost, _NormBase)
            args, kwargs = without_updates(func, args, kwargs)
        if getattr(func, "__name__", "") == "__get__":
            self._visible.free_recent()
            return self._property(func, args)
        tensors: list[Tensor] = []
        dependent: list[Tensor] = []

        def detached(tensor: Tensor) -> Tensor:
            if tensor.requires_grad:
                if self._origins.of(tensor) is None:
                    tensor = tensor.detach()
                else:
                    dependent.append(tensor)
            tensors.append(tensor)
            return tensor

        detached_args, detached_kwargs = map_tensors(args, detached), map_tensors(kwargs, detached)
        self._visible.free_recent()
        if not dependent:
            return self._run_constant(func, args, kwargs)
        record = operation_of(func)
        if record is NO_RECORD and (inner := without_override_check(func)) is not None:
            return self._call_traced(inner, *args, **kwargs)
        arguments = _input_first(func, detached_args, detached_kwargs)
        call = Call(func, *arguments, record, tensors, dependent)
        return self._run_recorded(call, args[0] if args else None)

    def _run_recorded(self, call: Call, original: Any) -> Any:
        """Runs and records a call on tensors that depend on the inputs.

        ``original`` is its first argument as the model passed it, or None.
        """
        record = call.record
        if call.name == "batch_norm" and record.parameters and call.bound["training"]:
            # A single sample is one row in any case: only the mode tells what is meant.
            is_one = samples_of(self._places[0]) == 1
            if len(call.bound["input"]) > 1 or (is_one and not self._modules.in_evaluation_mode):
                raise_batch_statistics(self._modules.path)
        if record.parts is not None and (record.parts_if is None or record.parts_if(call)):
            # An in-place part has to overwrite the model's own tensor, not a detached one.
            is_other = call.in_place and original is not None
            try:
                return self._call_traced(
                    record.parts, call.with_first(original) if is_other else call
                )
            except NoRuleError:
                pass
        if call.in_place and call.name != "detach":
            if torch.is_grad_enabled():
                return run_in_place(call, original, self.recorder, self._result)
            self._freeze_readers_of(call.args[0])
        elif not torch.is_grad_enabled():  # a constant, although a view of x requires a gradient
            return self._run_constant(call.func, call.args, call.kwargs)
        return self._run(call)

    def _run_constant(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Runs a call on constants; it may overwrite one that a bias reads later."""
        overwritten = tensors_in(kwargs.get("out"))
        if overwrites(func, args, kwargs):
            overwritten += tensors_in(args[0]) if args else tensors_in(kwargs)
        for tensor in overwritten:
            self._freeze_readers_of(tensor)
        return func(*args, **kwargs)

    def _freeze_readers_of(self, tensor: Tensor) -> None:
        """Freezes the readers of a tensor before it is overwritten without autograd."""
        if readers := self._readers.freeze(tensor):
            self.recorder.is_shown_by_graph = False  # a replay reads it after the forward pass
            if not tensor.requires_grad:  # a custom Function may overwrite its argument
                self.recorder.is_overwritten |= self._hidden.has_any_of(readers)

    def _property(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Reads an attribute without detaching, so that ``weight.T`` still requires a gradient."""
        value = func(*args)
        if isinstance(value, Tensor) and value.requires_grad:
            if self._origins.of(args[0]) is None or not torch.is_grad_enabled():
                return value
            self.recorder.record(Call(func, args, {}, operation_of(func)), value)
        return value

    def _run(self, call: Call) -> Any:
        if not self._has_small_inputs and (folded := self._run_folded(call)) is not None:
            return folded
        if call.name in BATCH_NORMS and is_misread(z := call.args[0]):
            copied = self._call_traced(torch.clone, z, memory_format=torch.contiguous_format)
            call = call.with_first(copied)
        random_state, name = None, call.name
        has_no_form, is_recurrent = call.record.bias is None, call.record.is_recurrent
        is_layer = is_recurrent and not name.endswith("_cell")
        if has_no_form or is_layer or "dropout" in name or "attention" in name:
            random_state = RandomState(call.dependent[0].device)  # it may draw random numbers
        with without_checkpointing():
            result = self._result(call)
        if result is call.dependent[0] and not call.in_place:
            return result  # such as a dropout in evaluation mode
        if random_state is not None and random_state.is_current():
            random_state = None  # replaying would disturb other threads
        self.recorder.is_random |= random_state is not None
        if isinstance(result, (tuple, list)) and (has_no_form or is_recurrent):
            # If autograd computes output B from output A, the gradient at A includes the path
            # through B. The gradient at a clone of A does not.
            result = map_tensors(result, lambda t: t.clone() if t.requires_grad else t)
        self.recorder.record(call, result, random_state)
        return result

    def _run_folded(self, call: Call) -> Tensor | None:
        """The result of a convolution that runs with its batch norm, or of such a batch norm."""
        if call.name == "batch_norm":
            normalized = self.folded_norms.normalize(call)
            if normalized is not None:
                self.recorder.record_folded(call, normalized)
            return normalized
        if call.name not in CONVOLUTIONS:
            return None
        with without_checkpointing():
            folded = self.folded_norms.fold(call)
        if folded is None:
            return None
        result, scaled, normalized = folded
        self.recorder.record(scaled, normalized)
        places = places_of(normalized)
        assert places is not None
        self._origins.follow(result, places)
        return result

    def _result(self, call: Call) -> Any:
        """Runs a call in the equivalent form of its record, if that is worth it."""
        if call.record.form_of_large and self._has_small_inputs:
            return call()
        return run_equal_form(call, self._readers)


def _input_first(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with ``input`` as the first one, if it was passed by keyword."""
    if args or "input" not in kwargs or operation_name(func) in _INPUT_IS_NOT_FIRST:
        return args, kwargs
    return (kwargs["input"],), {name: value for name, value in kwargs.items() if name != "input"}


_INPUT_IS_NOT_FIRST = {"where", "polygamma", "special_polygamma"}
"""Operations with another parameter before ``input``."""


_DIFFERENTIATE = {torch.autograd.grad, torch.autograd.backward, Tensor.backward}

_REQUIRES_GRAD = Tensor.requires_grad.__get__  # type: ignore[attr-defined]

_MAY_HOOK = {Tensor.register_hook, Tensor.grad_fn.__get__}  # type: ignore[union-attr]

_NOT_FOLLOWED = {
    *_DIFFERENTIATE, *_MAY_HOOK,
    Tensor.dim, Tensor.size, Tensor.stride, Tensor.numel, Tensor.is_contiguous,
    Tensor.is_floating_point, Tensor.data_ptr, Tensor.__len__,
    *(
        getattr(Tensor, name).__get__
        for name in ("requires_grad", "is_leaf", "shape", "ndim", "device", "dtype", "is_cuda")
    ),
}  # fmt: skip
"""Functions that run without being recorded, because they compute no part of the output."""
