"""Records the activation of a layer, and runs the network from a given activation on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from captum_tgrad.attribution.layer_places import layer_places, without_channels
from captum_tgrad.decomposition.nested import map_tensors, own_containers
from captum_tgrad.decomposition.operations.running_statistics import KeptStatistics
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places, input_places
from captum_tgrad.decomposition.refusals import refuse_known_errors
from captum_tgrad.decomposition.tracing.compiled_models import (
    compiled_models_run_eagerly,
    uncompiled,
)
from captum_tgrad.decomposition.tracing.running_modules import RunningModules
from captum_tgrad.decomposition.tracing.trace import Trace

_replaced: ContextVar[tuple[nn.Module, ...]] = ContextVar("_replaced", default=())
"""The layers whose activations are replaced in this thread."""

HOW_TO_EXPLAIN_ONE = (
    "In the model, wrap it in a module that returns the one tensor to explain, and pass that"
    " module; or explain the layer's input with attribute_to_layer_input=True."
)
"""What to do about a layer that returns several tensors, such as a recurrent one."""


def named(layer: nn.Module) -> str:
    """The layer in messages."""
    return f"layer ({type(layer).__name__})"


def raise_unused(layer: nn.Module, number: int, count: int) -> NoReturn:
    """Raises ValueError for the tensor ``number`` of the ``count`` in an activation."""
    what = f"{named(layer)}: pass a module whose last result this output uses."
    if count > 1:
        what = f"tensor {number} of the {count} in the activation of {named(layer)}. "
        what += HOW_TO_EXPLAIN_ONE
    raise ValueError(f"The explained output does not depend on {what}") from None


@dataclass(frozen=True)
class LayerActivation:
    """The output of a layer, or its input, in the layer's last call.

    ``places`` has the places of the elements of each tensor; calls are numbered from 1. If the
    network uses the channels of an input as positions, ``channels_as_places`` has the two axes.
    ``output`` is what the network returned in this run.
    """

    tensors: tuple[Tensor, ...]
    places: tuple[Places, ...]
    call: int
    channels_as_places: tuple[Axis, Axis | None] | None
    output: Any

    @property
    def precision(self) -> float:
        """The largest machine epsilon of the dtypes of the activation and the output."""
        return max(torch.finfo(each.dtype).eps for each in (self.output, *self.tensors))

    def differs(self, other: LayerActivation) -> bool:
        """Whether another run had other values."""
        return not all(map(torch.equal, self.tensors, other.tensors))


def activation_of(
    layer: nn.Module,
    forward: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    further: tuple[Any, ...] | None,
    channel_dims: tuple[int | None, ...],
    *,
    at_input: bool,
) -> LayerActivation:
    """The activation of ``layer`` in one run of ``forward``, with its places on the inputs.

    Raises TypeError or ValueError if the layer never runs or its activation cannot be explained.
    """
    followed = [number for number, t in enumerate(inputs) if t.is_floating_point()]
    leaves = [inputs[number].detach().requires_grad_() for number in followed]
    given_places = [input_places(inputs[n].shape, n, channel_dims[n]) for n in followed]
    trace = Trace(leaves, given_places, None) if leaves else None
    calls = 0
    tensors: tuple[Tensor, ...] = ()

    def save(value: Any) -> None:
        nonlocal calls, tensors
        calls += 1
        # Copies, as the model may overwrite the activation.
        tensors = tuple(tensor.clone() for tensor in _tensors_of(value, layer, at_input))

    try:
        with compiled_models_run_eagerly(), torch.enable_grad(), _watched(layer, at_input, save):
            traced = iter(trace.follow(leaves) if trace else [])
            arguments = [next(traced) if t.is_floating_point() else t.clone() for t in inputs]
            try:
                # Without a trace, norms must not change their running statistics either.
                with KeptStatistics(), trace or RunningModules():
                    output = uncompiled(forward)(*arguments, *own_containers(further or ()))
            except RuntimeError as error:
                refuse_known_errors(error)
                raise
        if not calls:
            raise ValueError(
                f"{named(layer)} is never called by forward_func. Pass a module"
                " of the model that computes the output, for example model.layer4."
            )
        samples = inputs[0].shape[0]
        of_integers = [dim for number, dim in enumerate(channel_dims) if number not in followed]
        channel_dim = next(iter(of_integers), channel_dims[0])
        places = tuple(layer_places(t, samples, layer, channel_dim) for t in tensors)
    finally:
        if trace:
            trace.recorder.release()
    mistaken = trace.recorder.channels_as_places if trace else None
    if mistaken:
        places = tuple(without_channels(each) for each in places)  # one warning is enough
    if isinstance(output, Tensor):
        output = output.detach()
    tensors = tuple(tensor.detach() for tensor in tensors)
    return LayerActivation(tensors, places, calls, mistaken, output)


def network_from(
    layer: nn.Module,
    forward: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    activation: LayerActivation,
    *,
    at_input: bool,
) -> Callable[..., Any]:
    """The part of the network that follows ``layer``, as a function of the layer's activation.

    Branches that do not pass through the layer, such as a skip connection around it, are constant.
    """
    count = len(activation.tensors)

    def from_layer(*arguments: Any) -> Any:
        calls = 0

        def replace(value: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != activation.call:
                return None
            replacement = iter(arguments[:count])
            return map_tensors(value, lambda tensor: next(replacement))

        with _watched(layer, at_input, replace):
            return uncompiled(forward)(*(t.clone() for t in inputs), *arguments[count:])

    return from_layer


@contextmanager
def _watched(layer: nn.Module, at_input: bool, call: Callable[[Any], Any]) -> Iterator[None]:
    """Calls ``call`` with each activation of ``layer``; its result, if any, replaces it."""
    thread = threading.get_ident()

    def hook(module: nn.Module, given: Any, returned: Any = None) -> Any:
        # A copy of the model that is made in the meantime also has this hook.
        if threading.get_ident() != thread or module is not layer:
            return None
        return call(given if at_input else returned)

    register = layer.register_forward_pre_hook if at_input else layer.register_forward_hook
    with register(hook):
        token = _replaced.set((*_replaced.get(), layer))
        try:
            yield
        finally:
            _replaced.reset(token)


def check_not_nested(forward_func: Any) -> None:
    """Raises ValueError if an activation of a model is replaced: both maps would be wrong."""
    for layer in _replaced.get():
        if isinstance(forward_func, nn.Module) and layer in forward_func.modules():
            raise ValueError(
                "A hook of forward_func called attribute() or decompose() while"
                f" LayerTGradAttribution replaces the activation of a {type(layer).__name__} of"
                " this model. Compute one attribution after the other, or explain"
                " copy.deepcopy(model) in the hook."
            )


def _tensors_of(value: Any, layer: nn.Module, at_input: bool) -> list[Tensor]:
    """The tensors of an activation without ``None``; raises TypeError or ValueError for others."""
    items = value if isinstance(value, (tuple, list)) else (value,)
    verb = "receives" if at_input else "returns"
    if not items:
        raise ValueError(
            f"{named(layer)} {verb} no positional argument. Explain the output of"
            " the layer before it."
        )
    tensors = [item for item in items if item is not None] or [None]
    for item in tensors:
        if not isinstance(item, Tensor) or not item.is_floating_point():
            found = str(item.dtype) if isinstance(item, Tensor) else type(item).__name__
            nested = "a nested " if isinstance(item, (tuple, list)) else ""
            hint = "Pass a layer inside this one or right after it."
            if isinstance(layer, nn.RNNBase):
                hint = HOW_TO_EXPLAIN_ONE
            raise TypeError(
                f"{named(layer)} {verb} {nested}{found}; only a float tensor or a"
                f" flat tuple of float tensors can be explained. {hint}"
            )
    return tensors
