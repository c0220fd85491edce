"""Recurrent layers and cells. A layer has the same terms as a loop over its cell.

Each step has the bias ``b = y - dy``, with the directional derivative ``dy`` of the step along its
arguments. The backward pass is ours, because torch's does not return the gradients between steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, InnerGradient
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.old_values import Kept, OldValues
from captum_tgrad.decomposition.operations.moving import constants, nothing
from captum_tgrad.decomposition.operations.operation import records, require_constant
from captum_tgrad.decomposition.operations.recurrent_parts import in_parts, passed
from captum_tgrad.decomposition.operations.recurrent_steps import STEPS, Steps
from captum_tgrad.decomposition.places import recurrent_places as places
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast


class _Layer:
    """A call of one layer in one direction, or of a cell, which is a layer of one step.

    Args:
        call: The call.
        inputs: The input and the initial states.
        weights: The weights and biases.
        outputs: The results of the call.

    Attributes:
        gradient: The gradients at all states after each step, concatenated in the last dimension.
        is_cell: Whether it is a cell.
        kept: The inputs, the weights and the outputs that the backward pass reads.
    """

    def __init__(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        self.gradient = InnerGradient()
        self.is_cell = call.name.endswith("_cell")
        self._kind = STEPS[call.name.removesuffix("_cell")]
        self._depends = [tensor.requires_grad for tensor in inputs]
        # Of all outputs of a layer, only the first one has all steps.
        known = outputs if self.is_cell else outputs[:1]
        self.kept = Kept(inputs), Kept(weights), Kept(known)
        self._steps: Steps | None = None

    def bias(self) -> Tensor:
        """``b`` of all states after each step, concatenated in the last dimension."""
        steps = self._steps or self._computed_steps()
        pairs = zip(steps.after, steps.derivative(), strict=True)
        found = torch.cat([y - dy for y, dy in pairs], -1)
        return found[0] if self.is_cell else found

    def gradients(self, arrived: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients at the input and the initial states, from those at the outputs."""
        steps = self._steps = self._computed_steps()
        # The gradients at the last states. A layer returns these after the outputs of all steps.
        d_last = [
            torch.zeros_like(after[-1]) if d is None else in_full_precision(d).view_as(after[-1])
            for after, d in zip(steps.after, arrived[not self.is_cell :], strict=True)
        ]
        d_outputs = torch.zeros_like(steps.after[0])
        if not self.is_cell and arrived[0] is not None:
            d_outputs += arrived[0]
        d_outputs[-1] += d_last[0]
        d_after, d_inputs = steps.backward(d_outputs, d_last[1:])
        every = torch.cat(d_after, -1)
        self.gradient.arrived(every[0] if self.is_cell else every)
        self._steps = None
        return [
            gradient.view(value.shape).to(value.dtype)
            for value, gradient in zip(self.kept[0].read(), d_inputs, strict=True)
        ]

    def _computed_steps(self) -> Steps:
        """Computes the steps again, in full precision."""
        (x, *first), weights, known = (
            [in_full_precision(value) for value in kept.read()] for kept in self.kept
        )
        if self.is_cell:
            x, known = x[None], [value[None] for value in known]
        else:
            first = [state[0] for state in first]
        return self._kind(x, first, weights, known, self._depends)


class _OneLayer(torch.autograd.Function):
    """A layer or a cell whose backward pass computes the gradients at all states."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, weights: Sequence[Tensor], old_values: OldValues, *inputs: Tensor
    ) -> Any:
        outputs = tensors_in(call())
        ctx.layer = call.shared["layer"] = _Layer(call, inputs, weights, outputs)
        for kept in ctx.layer.kept:
            old_values.are_read_by(kept)
        # For models that compute gradients of gradients. torch raises an error if these tensors
        # are read after they were overwritten.
        ctx.save_for_backward(*inputs, *weights)
        ctx.again = call.func, len(inputs), () if ctx.layer.is_cell else call.args[3:]
        ctx.set_materialize_grads(False)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *arrived: Tensor | None) -> Any:
        if torch.is_grad_enabled():
            return None, None, None, *_differentiable(ctx, arrived)
        with without_autocast(ctx.layer.kept[0].read()[0]):
            return None, None, None, *ctx.layer.gradients(arrived)


def _differentiable(ctx: Any, arrived: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The gradients at the input and the initial states, computed by torch with a graph."""
    func, count, options = ctx.again
    saved = ctx.saved_tensors
    # Views, because arguments may be the same tensor or depend on each other.
    x, *first = inputs = [tensor.view_as(tensor) for tensor in saved[:count]]
    weights = saved[count:]
    outputs = func(x, passed(first), *(weights if ctx.layer.is_cell else (weights,)), *options)
    pairs = [(y, d) for y, d in zip(tensors_in(outputs), arrived, strict=True) if d is not None]
    outputs, gradients = zip(*pairs, strict=True)
    needed = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, needed, gradients, create_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def _run_as_one_layer(call: Call, old_values: OldValues) -> Any:
    """Runs a cell, or one layer in one direction, so that the gradients between steps are known."""
    inputs, weights = _inputs_and_weights(call)
    return _OneLayer.apply(call, weights, old_values, *inputs)


def _inputs_and_weights(call: Call) -> tuple[list[Tensor], list[Tensor]]:
    """The input with the initial states, and the weights.

    Raises:
        NoRuleError: It is neither a cell nor one layer in one direction with the steps first.
    """
    is_cell = call.name.endswith("_cell")
    if call.kwargs or (len(call.args) < 4 if is_cell else len(call.args) != 9):
        raise NoRuleError
    if is_cell:
        x, states, *weights = call.args
        weights = [weight for weight in weights if weight is not None]
        fits = x.dim() == 2 and len(weights) in (2, 4)
    else:
        x, states, weights, has_biases, layers, _, _, both, batch_first = call.args
        uses_all = bool(has_biases) == (len(weights) > 3)  # torch may ignore biases in the list
        fits = uses_all and x.dim() == 3 and layers == 1 and not both and not batch_first
    if not fits:
        raise NoRuleError
    require_constant(*weights)
    return [x, *tensors_in(states)], weights


def bias(call: Call, output: Tensor) -> Bias | None:
    """The bias of all states after each step, in one term that belongs to the first output."""
    layer: _Layer | None = call.shared.get("layer")
    if layer is None:
        raise NoRuleError
    if output is not call.returned[0]:
        return None
    uncut = tuple(range(output.dim()))
    return Bias(layer.bias, uncut=uncut, source=layer.gradient)


def padding(call: Call, output: Tensor) -> Bias | None:
    """The padding value of ``pad_packed_sequence``."""
    return constants(call, output) if call.args[3] else None


OPERATIONS: dict[str, Operation] = {
    **records(
        "lstm gru rnn_tanh rnn_relu",
        places=places.layer,
        bias=bias,
        is_recurrent=True,
        parts=in_parts,
        form=_run_as_one_layer,
    ),
    **records(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        places=places.cell,
        bias=bias,
        is_recurrent=True,
        form=_run_as_one_layer,
    ),
    **records("pack_padded_sequence", places=places.packed, bias=nothing),
    **records("pad_packed_sequence", places=places.packed, bias=padding),
}
