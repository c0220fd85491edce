"""The result of a decomposition: an output as a sum of named terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Magnitudes:
    """How large the elements of a term are before its channels are summed.

    Args:
        smallest: ``min |c|`` over channels and places, shape ``(N,)``.
        largest: ``max |c|``, shape ``(N,)``.
        elements: How many elements ``c`` has per sample.
    """

    smallest: Tensor
    largest: Tensor
    elements: int

    def to(self, device: torch.device) -> Magnitudes:
        """The same on another device."""
        return Magnitudes(self.smallest.to(device), self.largest.to(device), self.elements)


@dataclass(frozen=True)
class Term:
    """One summand of the output, as two maps.

    Args:
        name: The path of the module whose bias it is, with the operation where a module has
            several (``"features.4.block.1:mul"``) and a count where it is called again
            (``"conv#2"``); the operation's name alone outside of all modules. ``"input"`` for the
            input's own term, ``"input 0"`` and so on where there are several.
        positive: The evidence for the target, ``sum_c ReLU(c)`` over channels: shape
            ``(N, 1, *spatial)`` at the operation's own resolution, ``(N, 1)`` if it has no place.
        negative: The evidence against it, ``sum_c ReLU(-c)``; the same shape.
        score: What the term adds to the output, signed: shape ``(N,)``. It is the sum of
            ``positive`` minus the sum of ``negative``.
        inputs: The numbers of the network's inputs on which the term depends.
        magnitudes: The range of ``|c|``, where a method asked for it.
    """

    name: str
    positive: Tensor
    negative: Tensor
    score: Tensor
    inputs: tuple[int, ...] = (0,)
    magnitudes: Magnitudes | None = None


@dataclass(frozen=True)
class Decomposition:
    """``output == sum of term.score for all terms + delta``, for each sample.

    Args:
        output: The explained output, shape ``(N,)``.
        input: The term of the input, or a tuple of them for several inputs.
        biases: The terms of all operations that add something, in forward order.
        delta: What the terms leave unexplained, shape ``(N,)``: rounding, unless an operation
            was hidden from the trace.
    """

    output: Tensor
    input: Term | tuple[Term, ...]
    biases: Sequence[Term]
    delta: Tensor

    @property
    def inputs(self) -> tuple[Term, ...]:
        """The terms of the inputs, always as a tuple."""
        return (self.input,) if isinstance(self.input, Term) else self.input

    @property
    def terms(self) -> list[Term]:
        """The terms of the inputs, then those of the biases."""
        return [*self.inputs, *self.biases]
