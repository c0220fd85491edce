"""Recurrent layers and cells. A layer is its cell at every step: both have the same terms.

The function of a step has the bias ``b = y - dy``, with the derivative ``dy`` along its arguments.
The backward pass is ours, as torch's does not tell the gradients between the steps of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ElementBias, InnerGradient
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.moving import constants, nothing
from captum_tgrad.decomposition.operations.operation import records, require_constant
from captum_tgrad.decomposition.operations.recurrent_parts import in_parts, listed
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


class _Layer:
    """One layer in one direction, or a cell, which is a layer of one step.

    Args:
        call: The call that runs it.
        inputs: Its inputs and each of its first states.

    Attributes:
        gradient: The gradients at all states after all steps, side by side.
        is_cell: Whether it is a cell.
    """

    def __init__(self, call: Call, inputs: Sequence[Tensor]) -> None:
        self.gradient = InnerGradient()
        self.is_cell = call.name.endswith("_cell")
        self._func = call.func
        self._options = () if self.is_cell else call.args[3:]
        self._kind = _STEPS[call.name.removesuffix("_cell")]
        self._depends = [tensor.requires_grad for tensor in inputs]
        self._ran: Steps | None = None

    def bias(self, known: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """``b`` of all states after all steps, side by side.

        Args:
            known: The outputs of a layer; the states after a cell.
            values: The inputs, the first states and the weights.
        """
        steps = self._ran or self._steps(known, values)
        derivatives = steps.derivative(self._depends[0], self._depends[1:])
        found = torch.cat([y - dy for y, dy in zip(steps.after, derivatives, strict=True)], -1)
        return found[0] if self.is_cell else found

    def _steps(self, known: Sequence[Tensor], values: Sequence[Tensor]) -> Steps:
        """The steps, computed in full precision."""
        known, values = ([in_full_precision(each) for each in given] for given in (known, values))
        x, first, weights = values[0], *self._split(values)
        if self.is_cell:
            return self._kind(x[None], first, weights, [each[None] for each in known])
        return self._kind(x, [state[0] for state in first], weights, known)

    def _split(self, values: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The first states and the weights."""
        count = len(self._depends)
        return values[1:count], values[count:]

    def gradients(
        self,
        known: Sequence[Tensor],
        values: Sequence[Tensor],
        arrived: Sequence[Tensor | None],
    ) -> list[Tensor]:
        """The gradients at the inputs and the first states, from those at the outputs."""
        steps = self._ran = self._steps(known, values)
        # At the states after the last step. An output of a layer has those of all steps.
        ends = [
            torch.zeros_like(after[-1]) if d is None else in_full_precision(d).view_as(after[-1])
            for after, d in zip(steps.after, arrived[not self.is_cell :], strict=True)
        ]
        d_outputs = torch.zeros_like(steps.after[0])
        if not self.is_cell and arrived[0] is not None:
            d_outputs += arrived[0]
        d_outputs[-1] += ends[0]
        found = steps.backward(d_outputs, ends[1:])
        every = torch.cat(found.after, -1)
        self.gradient.arrived(every[0] if self.is_cell else every)
        self._ran = None
        return [
            gradient.view(value.shape).to(value.dtype)
            for value, gradient in zip(values, (found.x, *found.first), strict=False)
        ]

    def differentiable_gradients(
        self, values: Sequence[Tensor], arrived: Sequence[Tensor | None]
    ) -> list[Tensor | None]:
        """The same by torch, with a graph of their own."""
        first, weights = self._split(values)
        states = first if len(first) > 1 else first[0]
        outputs = self._func(
            values[0], states, *(weights if self.is_cell else (weights,)), *self._options
        )
        given = [(y, d) for y, d in zip(listed(outputs), arrived, strict=True) if d is not None]
        outputs, gradients = zip(*given, strict=True)
        inputs = values[: len(self._depends)]
        needed = [tensor for tensor in inputs if tensor.requires_grad]
        found = iter(torch.autograd.grad(outputs, needed, gradients, create_graph=True))
        return [next(found) if tensor.requires_grad else None for tensor in inputs]


class _OneLayer(torch.autograd.Function):
    """A layer or a cell whose backward pass knows the gradients at all states."""

    @staticmethod
    def forward(
        ctx: Any, layer: _Layer, call: Call, weights: Sequence[Tensor], *inputs: Tensor
    ) -> Any:
        outputs = listed(call())
        known = outputs if layer.is_cell else outputs[:1]
        ctx.layer, ctx.known = layer, len(known)
        ctx.save_for_backward(*known, *inputs, *weights)
        ctx.set_materialize_grads(False)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor | None) -> Any:
        known, values = ctx.saved_tensors[: ctx.known], ctx.saved_tensors[ctx.known :]
        if torch.is_grad_enabled():  # the model differentiates a gradient of its own
            return None, None, None, *ctx.layer.differentiable_gradients(values, arrived)
        with without_autocast(values[0]):
            return None, None, None, *ctx.layer.gradients(known, values, arrived)


def run(call: Call) -> Any:
    """Runs a cell, or one layer in one direction, steps first; other calls run as they are."""
    try:
        inputs, weights = _inputs_and_weights(call)
    except NoRuleError:
        return call()
    call.shared["layer"] = _Layer(call, inputs)
    return _OneLayer.apply(call.shared["layer"], call, weights, *inputs)


def _inputs_and_weights(call: Call) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs with the first states, and the weights.

    Raises:
        NoRuleError: It is not a cell, or one layer in one direction, steps first.
    """
    if call.name.endswith("_cell"):
        x, states, *weights = call.args
        weights = [weight for weight in weights if weight is not None]
        fits = x.dim() == 2 and len(weights) in (2, 4)
    else:
        x, states, weights, _, layers, _, _, both, batch_first = call.args
        fits = x.dim() == 3 and layers == 1 and not both and not batch_first
    if not fits or call.kwargs:
        raise NoRuleError
    require_constant(*weights)
    return [x, *listed(states)], weights


def bias(call: Call, output: Tensor) -> Bias | None:
    """The bias of a layer or a cell: that of all states after all steps, at the first output."""
    layer: _Layer | None = call.shared.get("layer")
    if layer is None:
        raise NoRuleError
    if output is not call.returned[0]:
        return None
    inputs, weights = _inputs_and_weights(call)
    known = call.returned if layer.is_cell else [output]
    count = len(known)
    return ElementBias(
        lambda *held: layer.bias(held[:count], held[count:]),
        *known,
        *inputs,
        *weights,
        uncut=tuple(range(output.dim())),
        source=layer.gradient,
    )


def padding(call: Call, output: Tensor) -> Bias | None:
    """The value with which packed data is padded."""
    return constants(call, output) if call.args[3] else None


OPERATIONS: dict[str, Operation] = {
    **records(
        "lstm gru rnn_tanh rnn_relu",
        places=places.layer,
        bias=bias,
        chains_outputs=True,
        parts=in_parts,
        run=run,
    ),
    **records(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        places=places.cell,
        bias=bias,
        chains_outputs=True,
        run=run,
    ),
    **records("pack_padded_sequence", places=places.packed, bias=nothing),
    **records("pad_packed_sequence", places=places.packed, bias=padding),
}
