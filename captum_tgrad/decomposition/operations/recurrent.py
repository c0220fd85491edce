"""Recurrent layers and cells: ``b = y - dy``, with the derivative ``dy`` along their inputs.

The gates of all steps are computed from the outputs at once. Only the derivative is computed step
by step. Names are those of torch's documentation: ``i, f, g, o`` of an LSTM, ``r, z, n`` of a GRU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ElementBias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.operation import records, require_constant
from captum_tgrad.decomposition.places import mixing_places as mixing
from captum_tgrad.decomposition.precision import in_full_precision

Weights = Sequence[Tensor]
"""Input weights, hidden weights and, if the layer has them, their biases."""

Dual = tuple[Tensor, Tensor]
"""Values and their derivative."""

# ``gradient * y * (1 - y)`` and ``gradient * (1 - y * y)``, each in one pass.
sigmoid_backward = torch.ops.aten.sigmoid_backward.default
tanh_backward = torch.ops.aten.tanh_backward.default

RecurrentLayer = Callable[[Dual, Sequence[Dual], Weights, Tensor], list[Tensor]]
"""Takes the steps, the first states, the weights and the outputs, and returns the derivatives of
the outputs and of the last cell state."""


class _LstmFactors:
    """The factors of the derivatives of the gates and of the cell state, in all steps.

    Args:
        i, f, g, o: The gates.
        before: The cell state before each step.
        after: The cell state after it.
    """

    def __init__(self, gates: tuple[Tensor, ...], before: Tensor, after: Tensor) -> None:
        i, self.f, g, o = gates
        squashed = after.tanh()
        parts = [
            sigmoid_backward(g, i),
            sigmoid_backward(before, self.f),
            tanh_backward(i, g),
            sigmoid_backward(squashed, o),
        ]
        self.of_gates = torch.cat(parts, -1)
        self.of_cell = tanh_backward(o, squashed)


def _lstm_gates(step: Tensor, hidden: Tensor, weights: Weights) -> tuple[Tensor, ...]:
    gates = F.linear(step, weights[0], _bias(weights, 2))
    gates = gates.add_(F.linear(hidden, weights[1], _bias(weights, 3)))
    i, f, _, o = gates.sigmoid().chunk(4, -1)
    return i, f, gates.chunk(4, -1)[2].tanh(), o


def _lstm_step(
    d_gates: Tensor, d_cell: Tensor, of_gates: Tensor, f: Tensor, of_cell: Tensor
) -> Dual:
    """The derivatives of the hidden state and of the cell state after a step."""
    parts = d_gates.mul_(of_gates).view(len(d_gates), 4, -1)
    d_cell = torch.addcmul(parts[:, :3].sum(1), f, d_cell)
    return torch.addcmul(parts[:, 3], of_cell, d_cell), d_cell


def _lstm_cell(values: list[Tensor], derivatives: list[Tensor], outputs: list[Tensor]) -> Dual:
    step, hidden, cell, *weights = values
    gates = _lstm_gates(step, hidden, weights)
    factors = _LstmFactors(gates, cell, outputs[1])
    d_gates = F.linear(derivatives[0], weights[0])
    d_gates = torch.addmm(d_gates, derivatives[1], weights[1].T)
    return _lstm_step(d_gates, derivatives[2], factors.of_gates, factors.f, factors.of_cell)


def _lstm_layer(
    steps: Dual, states: Sequence[Dual], weights: Weights, outputs: Tensor
) -> list[Tensor]:
    (hidden, d_hidden), (cell, d_cell) = states
    gates = _lstm_gates(steps[0], torch.cat([hidden[None], outputs[:-1]]), weights)
    cells = [cell]
    for gain, kept in zip((gates[0] * gates[2]).unbind(), gates[1].unbind(), strict=True):
        cells.append(torch.addcmul(gain, kept, cells[-1]))
    factors = _LstmFactors(gates, torch.stack(cells[:-1]), torch.stack(cells[1:]))
    recurrent = weights[1].T
    found = []
    each = (F.linear(steps[1], weights[0]), factors.of_gates, factors.f, factors.of_cell)
    for d_step, of_gates, f, of_cell in zip(*(t.unbind() for t in each), strict=True):
        d_gates = torch.addmm(d_step, d_hidden, recurrent)
        d_hidden, d_cell = _lstm_step(d_gates, d_cell, of_gates, f, of_cell)
        found.append(d_hidden)
    return [torch.stack(found), d_cell]


def _gru_layer(
    steps: Dual, states: Sequence[Dual], weights: Weights, outputs: Tensor
) -> list[Tensor]:
    ((hidden, d_hidden),) = states
    before = torch.cat([hidden[None], outputs[:-1]])
    of_step = F.linear(steps[0], weights[0], _bias(weights, 2)).chunk(3, -1)
    of_state = F.linear(before, weights[1], _bias(weights, 3)).chunk(3, -1)
    r, z = ((s + h).sigmoid() for s, h in zip(of_step[:2], of_state[:2], strict=True))
    n = (of_step[2] + r * of_state[2]).tanh()
    of_n = tanh_backward(1 - z, n)
    of_r = sigmoid_backward(of_n * of_state[2], r)
    of_z = sigmoid_backward(before - n, z)
    d_steps = F.linear(steps[1], weights[0]).chunk(3, -1)
    gains = of_r * d_steps[0] + of_z * d_steps[1] + of_n * d_steps[2]
    factors = torch.cat([of_r, of_z, of_n * r], -1)
    recurrent = weights[1].T
    found = []
    for gain, factor, kept in zip(gains.unbind(), factors.unbind(), z.unbind(), strict=True):
        d_gates = (d_hidden @ recurrent).mul_(factor).view(len(d_hidden), 3, -1).sum(1)
        d_hidden = torch.addcmul(gain, kept, d_hidden).add_(d_gates)
        found.append(d_hidden)
    return [torch.stack(found)]


def _rnn_layer(
    steps: Dual, states: Sequence[Dual], weights: Weights, outputs: Tensor, *, tanh: bool
) -> list[Tensor]:
    ((_, d_hidden),) = states
    slopes = 1 - outputs * outputs if tanh else (outputs > 0).to(outputs.dtype)
    recurrent = weights[1].T
    found = []
    for d_step, slope in zip(F.linear(steps[1], weights[0]).unbind(), slopes.unbind(), strict=True):
        d_hidden = torch.addmm(d_step, d_hidden, recurrent).mul_(slope)
        found.append(d_hidden)
    return [torch.stack(found)]


def with_backward(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments of a layer, changed so that cuDNN has a backward pass, or as they are.

    cuDNN has none in evaluation mode. Training mode without dropout computes the same.
    """
    is_packed = len(args) == 9 and isinstance(args[3], (list, tuple))
    training = 7 if is_packed else 6
    if len(args) != 9 or args[training]:
        return args
    return (*args[: training - 1], 0.0, True, *args[training + 1 :])


def _bias(weights: Weights, position: int) -> Tensor | None:
    return weights[position] if len(weights) > position else None


_LAYERS: dict[str, RecurrentLayer] = {
    "lstm": _lstm_layer,
    "gru": _gru_layer,
    "rnn_tanh": lambda *arguments: _rnn_layer(*arguments, tanh=True),
    "rnn_relu": lambda *arguments: _rnn_layer(*arguments, tanh=False),
}


def recurrent(call: Call, output: Tensor) -> Bias | None:
    """The bias of one or several layers, in one or both directions, over whole sequences."""
    if len(call.args) != 9 or call.kwargs or not isinstance(call.args[0], Tensor):
        raise NoRuleError
    steps, states, weights, has_biases, layers, dropout, training, both, batch_first = call.args
    states = [states] if isinstance(states, Tensor) else list(states)
    directions = 1 + int(both)
    per_layer = 4 if has_biases else 2
    if (
        steps.dim() != 3
        or (dropout and training and layers > 1)
        or len(weights) != layers * directions * per_layer  # projections have more weights
    ):
        raise NoRuleError
    require_constant(*weights)
    operation, func, depends = _LAYERS[call.name], call.func, _depends(steps, *states)

    def derivatives(values: list[Tensor]) -> Iterator[Tensor]:
        known, x, *first = values[: 2 + len(states)]
        given = values[2 + len(states) :]
        if batch_first:
            known, x = known.transpose(0, 1), x.transpose(0, 1)
        d_x, *d_first = (
            v if d else torch.zeros_like(v) for v, d in zip((x, *first), depends, strict=True)
        )
        last: list[list[Tensor]] = []
        for layer in range(layers):
            found = []
            for direction in range(directions):
                number = layer * directions + direction
                own = given[number * per_layer : (number + 1) * per_layer]
                duals = [(v[number], d[number]) for v, d in zip(first, d_first, strict=True)]
                here, d_here = (t.flip(0) if direction else t for t in (x, d_x))
                y = known  # a single layer's; others are computed again
                if layers * directions > 1:
                    one = [v[number : number + 1].contiguous() for v in first]
                    start = one if len(one) > 1 else one[0]
                    y = func(here, start, own, has_biases, 1, 0.0, False, False, False)[0]
                d_y, *rest = operation((here, d_here), duals, own, y)
                last.append([d_y[-1], *rest])
                found.append([t.flip(0) if direction else t for t in (y, d_y)])
            x, d_x = (torch.cat(each, -1) for each in zip(*found, strict=True))
        yield d_x.transpose(0, 1) if batch_first else d_x
        yield from (torch.stack(each) for each in zip(*last, strict=True))

    values = [call.returned[0], steps, *states, *weights]
    return _bias_of(call, output, values, derivatives)


def cell(call: Call, output: Tensor) -> Bias | None:
    """The bias of a cell, which computes one step."""
    steps, states, *weights = call.args
    states = [states] if isinstance(states, Tensor) else list(states)
    weights = [weight for weight in weights if weight is not None]
    if call.kwargs or steps.dim() != 2 or len(weights) not in (2, 4):
        raise NoRuleError
    require_constant(*weights)
    kind = call.name.removesuffix("_cell")
    depends = _depends(steps, *states)
    count = len(call.returned)

    def derivatives(values: list[Tensor]) -> Iterator[Tensor]:
        outputs, inputs = values[:count], values[count:]
        known = _derivatives(inputs[: 1 + len(states)], depends)
        if kind == "lstm":
            return iter(_lstm_cell(inputs, known, outputs))
        duals = [(values[1][None], known[0][None])]
        found = _LAYERS[kind](duals[0], [(inputs[1], known[1])], inputs[2:], outputs[0][None])
        return iter([found[0][0]])

    return _bias_of(call, output, [*call.returned, steps, *states, *weights], derivatives)


def _depends(*tensors: Tensor) -> list[bool]:
    return [tensor.requires_grad for tensor in tensors]


def _derivatives(values: Sequence[Tensor], depends: Sequence[bool]) -> list[Tensor]:
    """The derivatives of inputs along themselves; zero for constants."""
    return [
        value if depends_on_it else torch.zeros_like(value)
        for value, depends_on_it in zip(values, depends, strict=True)
    ]


class _Derivatives:
    """The derivatives of all outputs of a call, computed once, when the first is needed.

    Args:
        values: The tensors that they are computed from.
        compute: Computes them from the values.
    """

    def __init__(
        self, values: list[Tensor], compute: Callable[[list[Tensor]], Iterator[Tensor]]
    ) -> None:
        self.values = [value.detach() if value.requires_grad else value for value in values]
        self._compute = compute
        self._known: list[Tensor] = []

    def __getitem__(self, number: int) -> Tensor:
        if not self._known:
            self._known = list(self._compute([in_full_precision(value) for value in self.values]))
            self.values = []
        return self._known[number]


def _bias_of(
    call: Call,
    output: Tensor,
    values: list[Tensor],
    compute: Callable[[list[Tensor]], Iterator[Tensor]],
) -> Bias:
    """The bias of one output. That of the first output holds the values for all of them."""
    number = next(n for n, each in enumerate(call.returned) if each is output)
    if "derivatives" not in call.shared:
        call.shared["derivatives"] = _Derivatives(values, compute)
        held = call.shared["derivatives"].values
    else:
        held = []
    derivatives: _Derivatives = call.shared["derivatives"]
    return ElementBias(
        lambda y, *_: y - derivatives[number], output, *held, uncut=tuple(range(output.dim()))
    )


OPERATIONS: dict[str, Operation] = {
    **records(
        "lstm gru rnn_tanh rnn_relu",
        places=mixing.recurrent,
        bias=recurrent,
        chains_outputs=True,
    ),
    **records(
        "lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell",
        places=mixing.cell,
        bias=cell,
        chains_outputs=True,
    ),
}
