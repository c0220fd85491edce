"""Splits a call of a recurrent layer into calls of one layer in one direction, steps first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.nested import tensors_in


def in_parts(call: Call) -> tuple[Tensor, ...]:
    """Runs a call once for each sequence length, layer and direction, with the steps first.

    Raises:
        NoRuleError: There is only one of each, or the call cannot be split.
    """
    args = call.args
    if len(args) != 9 or call.kwargs:
        raise NoRuleError
    is_packed = isinstance(args[3], (list, tuple))
    layers, dropout, training = args[5:8] if is_packed else args[4:7]
    if dropout and training and layers > 1:
        raise NoRuleError  # separate calls would drop other elements
    return _by_length(call) if is_packed else _by_layer(call)


def _by_length(call: Call) -> tuple[Tensor, ...]:
    """Runs a packed sequence: ``data`` holds step 0 of all samples, then step 1, and so on."""
    data, batch_sizes, states, *rest = call.args
    starts = batch_sizes.cumsum(0) - batch_sizes
    samples = torch.arange(int(batch_sizes[0]), device="cpu")
    lengths = (samples[:, None] < batch_sizes).sum(1)
    outputs, every_last, positions, members = [], [], [], []
    for length in sorted(set(lengths.tolist())):
        chosen = (lengths == length).nonzero().flatten()
        where = starts[:length, None] + chosen
        first = [state[:, chosen] for state in tensors_in(states)]
        y, *last = call.func(data[where], passed(first), *rest, False)
        outputs.append(y.flatten(0, 1))
        every_last.append(last)
        positions.append(where.flatten())
        members.append(chosen)
    order, sample = torch.cat(positions).argsort(), torch.cat(members).argsort()
    lasts = [torch.cat(each, 1)[:, sample] for each in zip(*every_last, strict=True)]
    return torch.cat(outputs)[order], *lasts


def _by_layer(call: Call) -> tuple[Tensor, ...]:
    x, states, weights, has_biases, layers, _, _, both, batch_first = call.args
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
            first = [state[number : number + 1] for state in tensors_in(states)]
            here = x.flip(0) if direction else x
            options = has_biases, 1, 0.0, False, False, False
            y, *last = call.func(here, passed(first), own, *options)
            outputs.append(y.flip(0) if direction else y)
            every_last.append(last)
        x = torch.cat(outputs, -1) if both else outputs[0]
    lasts = [
        each[0] if len(each) == 1 else torch.cat(each) for each in zip(*every_last, strict=True)
    ]
    return (x.transpose(0, 1) if batch_first else x, *lasts)


def passed(states: Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
    """States as torch expects them: a sequence of two for an LSTM, else a single tensor."""
    return states if len(states) > 1 else states[0]
