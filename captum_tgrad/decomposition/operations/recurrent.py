"""Recurrent layers and cells. A layer is its cell at every step: both have the same terms.

The function of a step has the bias ``b = y - dy``, with the derivative ``dy`` along its arguments.
A call with several layers, directions or lengths of sequences is traced part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ElementBias, InnerGradient
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.moving import constants, nothing
from captum_tgrad.decomposition.operations.operation import records, require_constant
from captum_tgrad.decomposition.operations.recurrent_steps import (
    GruSteps,
    LstmSteps,
    ReluSteps,
    RnnSteps,
    Steps,
)
from captum_tgrad.decomposition.places import recurrent_places as places
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast

_STEPS: dict[str, type[Steps]] = {
    "lstm": LstmSteps,
    "gru": GruSteps,
    "rnn_tanh": RnnSteps,
    "rnn_relu": ReluSteps,
}


def in_parts(func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
    """A call of several lengths, layers or directions as one call for each, steps first.

    Raises:
        NoRuleError: It has one of each already, or cannot be divided.
    """
    if len(args) != 9 or kwargs:
        raise NoRuleError
    layers, dropout, training = args[5:8] if isinstance(args[3], (list, tuple)) else args[4:7]
    if dropout and training and layers > 1:
        raise NoRuleError  # it would drop other units
    return (_by_length if isinstance(args[3], (list, tuple)) else _by_layer)(func, *args)


def _by_length(
    func: Callable[..., Any],
    data: Tensor,
    batch_sizes: Tensor,
    states: Tensor | Sequence[Tensor],
    *rest: Any,
) -> tuple[Tensor, ...]:
    """A packed sequence: ``data`` has the first steps of all samples, then the second steps."""
    starts = batch_sizes.cumsum(0) - batch_sizes
    samples = torch.arange(int(batch_sizes[0]), device="cpu")
    lengths = (samples[:, None] < batch_sizes).sum(1)
    outputs, every_last, positions, members = [], [], [], []
    for length in sorted(set(lengths.tolist())):
        chosen = (lengths == length).nonzero().flatten()
        where = starts[:length, None] + chosen
        first = [state[:, chosen] for state in _listed(states)]
        y, *last = func(data[where], first if len(first) > 1 else first[0], *rest, False)
        outputs.append(y.flatten(0, 1))
        every_last.append(last)
        positions.append(where.flatten())
        members.append(chosen)
    order, sample = torch.cat(positions).argsort(), torch.cat(members).argsort()
    lasts = [torch.cat(each, 1)[:, sample] for each in zip(*every_last, strict=True)]
    return torch.cat(outputs)[order], *lasts


def _by_layer(
    func: Callable[..., Any],
    x: Tensor,
    states: Tensor | Sequence[Tensor],
    weights: Sequence[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    training: bool,
    both: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    directions = 1 + int(both)
    if layers * directions == 1 and not batch_first:
        raise NoRuleError
    x = x.transpose(0, 1) if batch_first else x
    per_layer = len(weights) // (layers * directions)
    every_last = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            number = layer * directions + direction
            own = weights[number * per_layer : (number + 1) * per_layer]
            first = [state[number : number + 1] for state in _listed(states)]
            here = x.flip(0) if direction else x
            start = first if len(first) > 1 else first[0]
            y, *last = func(here, start, own, has_biases, 1, 0.0, False, False, False)
            outputs.append(y.flip(0) if direction else y)
            every_last.append(last)
        x = torch.cat(outputs, -1) if both else outputs[0]
    lasts = [
        each[0] if len(each) == 1 else torch.cat(each) for each in zip(*every_last, strict=True)
    ]
    return (x.transpose(0, 1) if batch_first else x, *lasts)


def _listed(states: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [states] if isinstance(states, Tensor) else list(states)


class _Layer:
    """One layer in one direction, and what its terms are computed from.

    Args:
        kind: The name of the layer's operation.
        inputs: Its inputs and each of its first states.

    Attributes:
        gradient: The gradients at all states after all steps, side by side.
        ran: The steps, while the backward pass has them.
    """

    def __init__(self, kind: str, inputs: Sequence[Tensor]) -> None:
        self._kind = _STEPS[kind]
        self._depends = [tensor.requires_grad for tensor in inputs]
        self.gradient = InnerGradient()
        self.ran: Steps | None = None

    def steps(self, known: Sequence[Tensor], values: Sequence[Tensor]) -> Steps:
        """The steps, computed in full precision.

        Args:
            known: As for :class:`Steps`.
            values: The inputs, the first states and the weights.
        """
        known, values = ([in_full_precision(each) for each in given] for given in (known, values))
        weights = len(self._depends)
        return self._kind(values[0], values[1:weights], values[weights:], known)

    def biases(self, known: Sequence[Tensor], values: Sequence[Tensor]) -> list[Tensor]:
        """``b`` of each state after all steps; the arguments are those of :meth:`steps`."""
        steps = self.ran or self.steps(known, values)
        derivatives = steps.derivative(self._depends[0], self._depends[1:])
        return [y - dy for y, dy in zip(steps.after, derivatives, strict=True)]


class _OneLayer(torch.autograd.Function):
    """A layer whose backward pass knows the gradients between its steps."""

    @staticmethod
    def forward(ctx: Any, call: Call, layer: _Layer, *inputs: Tensor) -> Any:
        y, *last = call()
        ctx.layer, ctx.func, ctx.options = layer, call.func, call.args[3:]
        ctx.save_for_backward(y, *inputs, *call.args[2])
        ctx.set_materialize_grads(False)
        return y, *last

    @staticmethod
    def backward(ctx: Any, d_y: Tensor | None, *d_last: Tensor | None) -> Any:
        y, *values = ctx.saved_tensors
        count = 1 + len(d_last)
        x, *first = values[:count]
        if torch.is_grad_enabled():  # the model differentiates a gradient of its own
            return None, None, *_differentiable(ctx, values, [d_y, *d_last])
        with without_autocast(y):
            layer: _Layer = ctx.layer
            values[1:count] = [state[0] for state in first]
            steps = layer.ran = layer.steps([y], values)
            gradient = torch.zeros_like(steps.after[0])
            if d_y is not None:
                gradient += d_y
            if d_last[0] is not None:
                gradient[-1] += d_last[0][0]
            last = [
                torch.zeros_like(after[0]) if each is None else in_full_precision(each[0])
                for after, each in zip(steps.after[1:], d_last[1:], strict=True)
            ]
            found = steps.backward(gradient, last)
            layer.gradient.arrived(torch.cat(found.after, -1))
            layer.ran = None
            d_first = [d.to(state)[None] for d, state in zip(found.first, first, strict=True)]
            return None, None, found.x.to(x), *d_first


def _differentiable(
    ctx: Any, values: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """The gradients at the inputs of a layer, by torch, with a graph of their own."""
    inputs, weights = values[: len(gradients)], values[len(gradients) :]
    x, *first = inputs
    outputs = ctx.func(x, first if len(first) > 1 else first[0], weights, *ctx.options)
    pairs = [(y, d) for y, d in zip(outputs, gradients, strict=True) if d is not None]
    outputs, arrived = zip(*pairs, strict=True)
    needed = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, needed, arrived, create_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def run_layer(call: Call) -> Any:
    """Runs one layer in one direction, steps first, with our backward pass; others with torch's."""
    if len(call.args) != 9 or call.kwargs or call.args[0].dim() != 3:
        return call()
    x, states, weights, _, layers, _, _, both, batch_first = call.args
    if layers != 1 or both or batch_first or any(weight.requires_grad for weight in weights):
        return call()
    first = _listed(states)
    call.shared["layer"] = _Layer(call.name, [x, *first])
    return _OneLayer.apply(call, call.shared["layer"], x, *first)


def layer(call: Call, output: Tensor) -> Bias | None:
    """The bias of one layer in one direction: that of the states of all steps."""
    known: _Layer | None = call.shared.get("layer")
    if known is None:
        raise NoRuleError
    if output is not call.returned[0]:
        return None  # a copy of a state after the last step
    x, states, weights = call.args[:3]

    def compute(y: Tensor, *values: Tensor) -> Tensor:
        return torch.cat(known.biases([y], values), -1)

    held = (output, x, *(state[0] for state in _listed(states)), *weights)
    return ElementBias(compute, *held, uncut=(0, 1, 2), source=known.gradient)


def cell(call: Call, output: Tensor) -> Bias | None:
    """The bias of a state after a cell, which is a layer of one step."""
    x, states, *weights = call.args
    states = _listed(states)
    weights = [weight for weight in weights if weight is not None]
    if call.kwargs or x.dim() != 2 or len(weights) not in (2, 4):
        raise NoRuleError
    require_constant(*weights)
    number = next(n for n, each in enumerate(call.returned) if each is output)
    if number == 0:
        one = _Layer(call.name.removesuffix("_cell"), [x, *states])
        call.shared["biases"] = _OfCell(one, call.returned, [x, *states, *weights])
    shared: _OfCell = call.shared["biases"]
    # The first bias holds the values for both.
    held = () if number else shared.held
    uncut = tuple(range(output.dim()))
    return ElementBias(lambda *_: shared.biases[number], *held, uncut=uncut)


class _OfCell:
    """The biases of the states after a cell, computed when the first is needed."""

    def __init__(self, one: _Layer, outputs: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        self._one = one
        self._count = len(outputs)
        self.held = [tensor.detach() for tensor in (*outputs, *values)]

    @cached_property
    def biases(self) -> list[Tensor]:
        """Those of all states."""
        known, values = self.held[: self._count], self.held[self._count :]
        self.held = []
        return self._one.biases(known, values)


def padding(call: Call, output: Tensor) -> Bias | None:
    """The value with which packed data is padded."""
    return constants(call, output) if call.args[3] else None


OPERATIONS: dict[str, Operation] = {
    **records(
        "lstm gru rnn_tanh rnn_relu",
        places=places.layer,
        bias=layer,
        chains_outputs=True,
        parts=in_parts,
        run=run_layer,
    ),
    **records(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        places=places.cell,
        bias=cell,
        chains_outputs=True,
    ),
    **records("pack_padded_sequence", places=places.packed, bias=nothing),
    **records("pad_packed_sequence", places=places.packed, bias=padding),
}
