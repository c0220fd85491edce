"""The result of a decomposition: an output as a sum of named terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.places.enlarging import on_the_whole


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


@dataclass(frozen=True)
class TermMap:
    """A term on one of the inputs.

    Args:
        positive: ``sum_c ReLU(c)`` over channels: shape ``(N, 1, *cells)``, or ``(N, 1)`` if the
            term has no place on the input.
        negative: ``sum_c ReLU(-c)``; the same shape.
        placed: The share of its evidence that has a place, from 0 to 1, shape ``(N,)``. The rest is
            spread evenly over the cells.
        grid: The cells, in pixels of the input; None without a place.
    """

    positive: Tensor
    negative: Tensor
    placed: Tensor
    grid: Grid | None = None


@dataclass(frozen=True)
class Term:
    """One summand of the output, as two maps.

    Args:
        name: The path of the module whose bias it is, with the operation where a module has
            several (``"features.4.block.1:mul"``) and a count where it is called again
            (``"conv#2"``); the operation's name alone outside of all modules. ``"input"`` for the
            input's own term, ``"input 0"`` and so on where there are several;
            ``"features.4:hidden"`` for what a module computes out of sight.
        positive: The evidence for the target, ``sum_c ReLU(c)`` over channels: shape
            ``(N, 1, *spatial)`` at the operation's own resolution, ``(N, 1)`` if it has no place.
            It covers the whole input; what was cropped away holds zeros.
        negative: The evidence against it, ``sum_c ReLU(-c)``; the same shape.
        score: What the term adds to the output, signed: shape ``(N,)``. It is the sum of
            ``positive`` minus the sum of ``negative``.
        inputs: The numbers of the network's inputs on which the term depends.
        magnitudes: The range of ``|c|``, where a method asked for it.
        maps: The term on each of those inputs, by number; ``positive`` and ``negative`` are those
            of the first on which it has a place.
        lost_at: The operation, this one or one before it, that lost its places; empty if none did.
    """

    name: str
    positive: Tensor
    negative: Tensor
    score: Tensor
    inputs: tuple[int, ...] = (0,)
    magnitudes: Magnitudes | None = None
    maps: Mapping[int, TermMap] = field(default_factory=dict, repr=False)
    lost_at: str = ""

    @property
    def placed(self) -> Tensor:
        """The share of the term's evidence that has a place on an input, shape ``(N,)``."""
        shares = [self.maps[number].placed for number in self.inputs if number in self.maps]
        if not shares:
            return torch.zeros_like(self.score)
        return torch.stack(shares).amax(0)


def term(
    name: str,
    maps: Mapping[int, TermMap],
    score: Tensor,
    magnitudes: Magnitudes | None = None,
    lost_at: str = "",
) -> Term:
    """A term from its maps on the inputs that reach it."""
    inputs = tuple(sorted(maps))
    shown = next((maps[n] for n in inputs if maps[n].grid is not None), maps[inputs[0]])
    positive, negative = shown.positive, shown.negative
    if shown.grid is not None:
        positive, negative = (on_the_whole(each, shown.grid) for each in (positive, negative))
    return Term(name, positive, negative, score, inputs, magnitudes, maps, lost_at)


@dataclass(frozen=True)
class Decomposition:
    """``output == sum of term.score for all terms + delta``, for each sample.

    Args:
        output: The explained output, shape ``(N,)``.
        input: The term of the input, or a tuple of them for several inputs.
        biases: The terms of all operations that add something, in forward order.
        delta: What the terms leave unexplained, shape ``(N,)``: rounding, unless values were
            changed without a gradient.
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

    @property
    def placed(self) -> Tensor:
        """The share of the sum of ``|score|`` that has a place on an input, shape ``(N,)``.

        The rest is spread evenly: that of a classifier, for example, which follows global pooling.
        """
        sizes = torch.stack([term.score.abs() for term in self.terms])
        placed = torch.stack([term.placed for term in self.terms])
        return (sizes * placed).sum(0) / sizes.sum(0).clamp_min(torch.finfo(sizes.dtype).tiny)
