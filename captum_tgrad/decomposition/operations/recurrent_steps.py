"""All steps of a recurrent layer: their states, the derivative of each step, the backward pass.

The outputs are known, so the gates of all steps are computed at once; only the backward pass loops
over steps. Gates have torch's names: ``i, f, g, o`` for an LSTM, ``r, z, n`` for a GRU. ``d_cell``
is a derivative of the cell state or a gradient at it. ``of_cell`` is the factor of the chain rule
for the path through the cell state, and so on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# ``gradient * y * (1 - y)`` and ``gradient * (1 - y * y)``, each in one pass over the memory.
sigmoid_backward = torch.ops.aten.sigmoid_backward.default
tanh_backward = torch.ops.aten.tanh_backward.default

Tensors = Sequence[Tensor]


class Steps(ABC):
    """The steps of one layer in one direction.

    Args:
        x: The input, shape ``(T, N, features)``.
        first: The initial states, each of shape ``(N, hidden)``.
        weights: Input weights, hidden weights and, if the layer has them, their biases and a
            projection.
        known: The outputs, shape ``(T, N, hidden)``; for a cell, all states after its only step.
        depends: Whether ``x`` and each of ``first`` depends on the network's input.

    Attributes:
        after: Each state after each step, shape ``(T, N, hidden)``. The first one is the output.
    """

    after: list[Tensor]

    @abstractmethod
    def __init__(
        self, x: Tensor, first: Tensors, weights: Tensors, known: Tensors, depends: Sequence[bool]
    ) -> None: ...

    def bias(self) -> Tensor:
        """``b`` of all states after each step, concatenated in the last dimension."""
        pairs = zip(self.after, self.derivative(), strict=True)
        return torch.cat([y - dy for y, dy in pairs], -1)

    @abstractmethod
    def derivative(self) -> list[Tensor]:
        """For each of ``after``, the directional derivative of each step along its arguments."""

    @abstractmethod
    def backward(self, gradient: Tensor, last: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        """The backward pass.

        Args:
            gradient: The gradients at the initial state, which are 0, and at the outputs. They are
                overwritten by those that include the paths through later steps.
            last: The gradients at the last states, except at the output.

        Returns:
            The gradients at each of ``after``, and those at ``x`` and each of ``first``. If a step
            computes one state from another, the former leave that path out.
        """


class _Lstm(Steps):
    def __init__(
        self, x: Tensor, first: Tensors, weights: Tensors, known: Tensors, depends: Sequence[bool]
    ) -> None:
        hidden, cell = first
        self._weights = weights
        self._projection = weights[-1] if len(weights) % 2 else None
        of_x = F.linear(x, weights[0])
        of_state = F.linear(_before(hidden, known[0]), weights[1])
        gates = of_x + of_state
        if len(weights) > 3:
            gates += weights[2] + weights[3]
        self._d_gates = _of_arguments(of_x, of_state, depends)
        i, f, _, o = gates.sigmoid().chunk(4, -1)
        g = gates.chunk(4, -1)[2].tanh()
        before, after = _cells(cell, i * g, f) if len(known) == 1 else (cell[None], known[1])
        self._d_cell = before if depends[2] else _without_first(before)
        squashed = after.tanh()
        self.after = [known[0], after]
        self._of_o = sigmoid_backward(squashed, o)
        self._of_cell = tanh_backward(o, squashed)
        # The factors for paths from the new cell state: to the old one, and to i, f and g.
        factors = [f, sigmoid_backward(g, i), sigmoid_backward(before, f), tanh_backward(i, g)]
        self._of_rest = torch.stack(factors, 2)

    def derivative(self) -> list[Tensor]:
        d_i, d_f, d_g, d_o = self._d_gates.chunk(4, -1)
        kept, *of_gates = self._of_rest.unbind(2)
        d_cell = kept * self._d_cell
        for factor, derivative in zip(of_gates, (d_i, d_f, d_g), strict=True):
            d_cell.addcmul_(factor, derivative)
        d_hidden = torch.addcmul(self._of_o * d_o, self._of_cell, d_cell)
        return [d_hidden if self._projection is None else d_hidden @ self._projection.T, d_cell]

    def backward(self, gradient: Tensor, last: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        size = self._of_o.shape[-1]
        # The gradients at the old cell state and at i, f, g, o of each step, from those at the new
        # hidden state and at the new cell state.
        paths = F.pad(self._of_rest, (0, 0, 0, 1))
        hidden_paths = paths * self._of_cell.unsqueeze(2)
        hidden_paths[:, :, 4] = self._of_o
        found = torch.empty_like(paths)
        d_gates, d_cells, d_cell = found.flatten(2)[:, :, size:], found[:, :, :1], last[0][:, None]
        for before, d_hidden, of_hidden, of_cell, each, gates, next_d_cell in _last_step_first(
            gradient[:-1], gradient[1:, :, None], hidden_paths, paths, found, d_gates, d_cells
        ):
            if self._projection is not None:
                d_hidden = d_hidden @ self._projection
            torch.mul(d_hidden, of_hidden, out=each).addcmul_(d_cell, of_cell)
            before.addmm_(gates, self._weights[1])
            d_cell = next_d_cell
        d_after = [gradient[1:], torch.cat([found[1:, :, 0], last[0][None]])]
        return d_after, [d_gates @ self._weights[0], gradient[0], d_cell.squeeze(1)]


def _cells(first: Tensor, gains: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The cell states before and after each step, from ``c' = kept * c + gains``."""
    cells = torch.cat([first[None], gains])
    states = cells.unbind()
    for before, after, share in zip(states[:-1], states[1:], kept.unbind(), strict=True):
        after.addcmul_(share, before)
    return cells[:-1], cells[1:]


class _Gru(Steps):
    def __init__(
        self, x: Tensor, first: Tensors, weights: Tensors, known: Tensors, depends: Sequence[bool]
    ) -> None:
        self._weights = weights
        self.after = [known[0]]
        before = _before(first[0], known[0])
        of_x = gates = F.linear(x, weights[0])
        of_state = state_gates = F.linear(before, weights[1])
        if len(weights) > 2:
            gates, state_gates = of_x + weights[2], of_state + weights[3]
        x_r, x_z, x_n = gates.chunk(3, -1)
        state_r, state_z, state_n = state_gates.chunk(3, -1)
        r, z = (x_r + state_r).sigmoid(), (x_z + state_z).sigmoid()
        n = torch.addcmul(x_n, r, state_n).tanh()
        of_n = tanh_backward(1 - z, n)
        of_r = sigmoid_backward(of_n * state_n, r)
        of_z = sigmoid_backward(before - n, z)
        self._z = z
        self._of_x = torch.cat([of_r, of_z, of_n], -1)
        self._of_state = torch.cat([of_r, of_z, of_n * r], -1)
        self._d_x = of_x if depends[0] else torch.zeros_like(of_x)
        self._d_state = of_state if depends[1] else _without_first(of_state)
        self._d_hidden = before if depends[1] else _without_first(before)

    def derivative(self) -> list[Tensor]:
        d_gates = (self._of_state * self._d_state).addcmul_(self._of_x, self._d_x)
        parts = d_gates.view(*self._z.shape[:2], 3, -1)
        return [torch.addcmul(parts.sum(2), self._z, self._d_hidden)]

    def backward(self, gradient: Tensor, last: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        factors = self._of_state.view(*self._z.shape[:2], 3, -1)
        d_after = gradient[1:]
        for before, d_hidden, of_state, z in _last_step_first(
            gradient[:-1], d_after, factors, self._z
        ):
            d_state = (d_hidden.unsqueeze(1) * of_state).flatten(1)
            before.addcmul_(z, d_hidden).addmm_(d_state, self._weights[1])
        d_x = (d_after.repeat(1, 1, 3) * self._of_x) @ self._weights[0]
        return [d_after], [d_x, gradient[0]]


class _TanhRnn(Steps):
    def __init__(
        self, x: Tensor, first: Tensors, weights: Tensors, known: Tensors, depends: Sequence[bool]
    ) -> None:
        self._weights = weights
        of_state = F.linear(_before(first[0], known[0]), weights[1])
        self._d_gates = _of_arguments(F.linear(x, weights[0]), of_state, depends)
        self.after = [known[0]]
        self._slopes = self._slopes_of(known[0])

    @staticmethod
    def _slopes_of(outputs: Tensor) -> Tensor:
        """The derivative of the activation function, computed from its outputs."""
        return 1 - outputs * outputs

    def derivative(self) -> list[Tensor]:
        return [self._d_gates * self._slopes]

    def backward(self, gradient: Tensor, last: Tensors) -> tuple[list[Tensor], list[Tensor]]:
        d_after = gradient[1:]
        for before, d_hidden, slope in _last_step_first(gradient[:-1], d_after, self._slopes):
            before.addmm_(d_hidden * slope, self._weights[1])
        return [d_after], [(d_after * self._slopes) @ self._weights[0], gradient[0]]


class _ReluRnn(_TanhRnn):
    @staticmethod
    def _slopes_of(outputs: Tensor) -> Tensor:
        return (outputs > 0).to(outputs.dtype)


def _before(first: Tensor, after: Tensor) -> Tensor:
    """A state before each step, from the initial state and the states after each step."""
    return torch.cat([first[None], after[:-1]]) if len(after) > 1 else first[None]


def _without_first(values: Tensor) -> Tensor:
    """Values of all steps, with 0 for the first step."""
    return torch.cat([torch.zeros_like(values[:1]), values[1:]])


def _last_step_first(*values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The parts of these tensors that belong to each step, from the last step to the first."""
    steps: list[tuple[Tensor, ...]] = list(zip(*(value.unbind() for value in values), strict=True))
    return reversed(steps)


def _of_arguments(of_x: Tensor, of_state: Tensor, depends: Sequence[bool]) -> Tensor:
    """The derivative of the gates before their activation functions; overwrites its arguments."""
    if not depends[1]:
        of_state[0] = 0
    return of_state.add_(of_x) if depends[0] else of_state


STEPS: dict[str, type[Steps]] = {
    "lstm": _Lstm,
    "gru": _Gru,
    "rnn_tanh": _TanhRnn,
    "rnn_relu": _ReluRnn,
}
"""The steps of each kind of layer."""
