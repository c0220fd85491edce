"""Recurrent layers and cells. A layer has the same terms as a loop over its cell.

Each step has the bias ``b = y - dy``, with the directional derivative ``dy`` of the step along its
arguments. The backward pass of a layer is ours, because torch's does not return the gradients
between steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.copy_on_write import CopyOnWrite, Readers
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.operations.helpers import records, require_constant
from captum_tgrad.decomposition.operations.moving import constants, no_bias
from captum_tgrad.decomposition.operations.recurrent_parts import in_parts, passed
from captum_tgrad.decomposition.operations.recurrent_steps import STEPS, Steps
from captum_tgrad.decomposition.places.rules import recurrent as places
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast


class _Layer:
    """A call of one layer in one direction.

    Args:
        call: The call.
        inputs: The input and the initial states.
        weights: The weights and biases.
        outputs: The results of the call.

    Attributes:
        kept: The inputs, the weights and the outputs of all steps, which the backward pass reads.
    """

    def __init__(
        self,
        call: Call,
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        self._hooks: OrderedDict[int, Callable[[Tensor], None]] = OrderedDict()
        self._kind = STEPS[call.name]
        self._depends = [tensor.requires_grad for tensor in inputs]
        self.kept = CopyOnWrite(inputs), CopyOnWrite(weights), CopyOnWrite(outputs[:1])
        self._steps: Steps | None = None

    def register_hook(self, hook: Callable[[Tensor], None]) -> RemovableHandle:
        """Calls ``hook`` with the gradients at all states, which have the shape of the bias."""
        handle = RemovableHandle(self._hooks)
        self._hooks[handle.id] = hook
        return handle

    def bias(self) -> Tensor:
        """``b`` of all states after each step, concatenated in the last dimension."""
        return (self._steps or self._computed_steps()).bias()

    def gradients(self, arrived: Sequence[Tensor | None]) -> list[Tensor]:
        """The gradients at the input and the initial states, from those at the outputs."""
        steps = self._steps = self._computed_steps()
        # The gradients at the last states, which a layer returns after the outputs of all steps.
        d_last = [
            torch.zeros_like(after[-1]) if d is None else in_full_precision(d).view_as(after[-1])
            for after, d in zip(steps.after, arrived[1:], strict=True)
        ]
        d_outputs = F.pad(torch.zeros_like(steps.after[0]), (0, 0, 0, 0, 1, 0))
        if arrived[0] is not None:
            d_outputs[1:] += arrived[0]
        d_outputs[-1] += d_last[0]
        d_after, d_inputs = steps.backward(d_outputs, d_last[1:])
        gradient = torch.cat(d_after, -1)
        for hook in list(self._hooks.values()):
            hook(gradient)
        self._steps = None
        return [
            gradient.view(value.shape).to(value.dtype)
            for value, gradient in zip(self.kept[0].read(), d_inputs, strict=True)
        ]

    def _computed_steps(self) -> Steps:
        """Computes the steps again, in full precision."""
        (x, *first), weights, outputs = (
            [in_full_precision(value) for value in kept.read()] for kept in self.kept
        )
        return self._kind(x, [state[0] for state in first], weights, outputs, self._depends)


class _OneLayer(torch.autograd.Function):
    """A layer whose backward pass computes the gradients at all states."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, weights: Sequence[Tensor], readers: Readers, *inputs: Tensor
    ) -> Any:
        outputs = tensors_in(call())
        ctx.layer = call.shared["layer"] = _Layer(call, inputs, weights, outputs)
        for kept in ctx.layer.kept:
            readers.add(kept)
        # For models that compute gradients of gradients. torch raises an error if these tensors
        # are read after they were overwritten.
        ctx.save_for_backward(*inputs, *weights)
        ctx.again = call.func, len(inputs), call.args[3:]
        ctx.set_materialize_grads(False)
        return tuple(outputs)

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
    outputs = func(x, passed(first), saved[count:], *options)
    pairs = [(y, d) for y, d in zip(tensors_in(outputs), arrived, strict=True) if d is not None]
    outputs, gradients = zip(*pairs, strict=True)
    needed = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(outputs, needed, gradients, create_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in inputs]


def _run_as_one_layer(call: Call, readers: Readers) -> Any:
    """Runs one layer in one direction so that the gradients between steps are known.

    Raises:
        NoRuleError: It has several layers or directions, or the samples first.
    """
    if call.kwargs or len(call.args) != 9:
        raise NoRuleError
    x, states, weights, has_biases, layers, _, _, both, batch_first = call.args
    uses_all = bool(has_biases) == (len(weights) > 3)  # torch may ignore biases in the list
    if not uses_all or x.dim() != 3 or layers != 1 or both or batch_first:
        raise NoRuleError
    require_constant(*weights)
    return _OneLayer.apply(call, weights, readers, x, *tensors_in(states))


def layer_bias(call: Call, output: Tensor) -> Bias | None:
    """The bias of all states after each step, in one term that belongs to the first output."""
    layer: _Layer | None = call.shared.get("layer")
    if layer is None:
        raise NoRuleError
    if output is not call.returned[0]:
        return None
    uncut = tuple(range(output.dim()))
    return Bias(layer.bias, uncut=uncut, register_hook=layer.register_hook)


def cell_bias(call: Call, output: Tensor) -> Bias | None:
    """The bias of all states, in one term that belongs to the first output."""
    if call.kwargs or len(call.args) < 4:
        raise NoRuleError
    x, states, *weights = call.args
    weights = [weight for weight in weights if weight is not None]
    if x.dim() != 2 or len(weights) not in (2, 4):
        raise NoRuleError
    require_constant(*weights)
    if output is not call.returned[0]:
        return None
    inputs = [x, *tensors_in(states)]
    depends = tuple([tensor.requires_grad for tensor in inputs])
    kind = STEPS[call.name.removesuffix("_cell")]

    register_hook = partial(_hook_at_all, call.returned) if len(call.returned) > 1 else None

    def compute(*held: Tensor) -> Tensor:
        step, *first = held[: len(inputs)]
        after = [state[None] for state in held[len(inputs) :]]
        own = [in_full_precision(weight) for weight in weights]
        return kind(step[None], first, own, after, depends).bias()[0]

    return Bias(
        compute,
        *inputs,
        *call.returned,
        uncut=(0, 1),
        register_hook=register_hook,
        constants=weights,
        alike=(call.name, depends, *((w.data_ptr(), w.shape, w.stride()) for w in weights)),
    )


def _hook_at_all(outputs: Sequence[Tensor], hook: Callable[[Tensor], None]) -> RemovableHandle:
    """Registers a hook on the gradients at several outputs, concatenated in the last dimension."""

    def arrived(gradients: Sequence[Tensor | None]) -> None:
        (known, *_) = (each for each in gradients if each is not None)
        zeros = torch.zeros_like(known)
        hook(torch.cat([zeros if each is None else each for each in gradients], -1))

    return torch.autograd.graph.register_multi_grad_hook(outputs, arrived)


OPERATIONS: dict[str, Operation] = {
    **records(
        "lstm gru rnn_tanh rnn_relu",
        places=places.layer,
        bias=layer_bias,
        is_recurrent=True,
        parts=in_parts,
        form=_run_as_one_layer,
    ),
    **records(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        places=places.cell,
        bias=cell_bias,
        is_recurrent=True,
    ),
    **records("pack_padded_sequence", places=places.packed, bias=no_bias),
    **records("pad_packed_sequence", places=places.packed, bias=constants, fill=(3,)),
}
