"""The result of a decomposition before its terms are named and listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Aggregation, Sign, combine
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.maps.stacks import StackedMaps
from captum_tgrad.decomposition.pending_terms import PendingTerm, names_of
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.term import Term, TermMap


@dataclass(frozen=True)
class RawDecomposition:
    """A decomposition as stacked maps, and the unsummed elements of the input terms.

    Args:
        output: The explained output, shape ``(N,)``.
        scores: The score of each term, those of the inputs first, shape ``(terms, N)``.
        delta: The output minus the sum of all terms.
        of_inputs: The map of each input's term.
        of_biases: The maps of the terms of all operations.
        contributions: ``df/dx * x`` for each input, shaped like that input.
        reductions: How the elements of each input are summed into the cells of its maps.
        terms: The terms of all operations in order, with their modules.
        axes: The spatial axes of each input, by its number.
    """

    output: Tensor
    scores: Tensor
    delta: Tensor
    of_inputs: tuple[StackedMaps, ...]
    of_biases: Sequence[StackedMaps]
    contributions: tuple[Tensor, ...]
    reductions: Sequence[Reduction]
    terms: Sequence[PendingTerm]
    axes: Mapping[int, Sequence[Axis]]

    @cached_property
    def sizes(self) -> Tensor:
        """``|score|`` of each term, shape ``(terms, N)``."""
        return self.scores.abs()

    @cached_property
    def decomposition(self) -> Decomposition:
        """The decomposition as a list of terms."""
        count = len(self.of_inputs)
        inputs = [
            Term("input" if count == 1 else f"input {number}", _score(found), found)
            for number, found in enumerate(_maps(self.of_inputs, count))
        ]
        biases = [
            Term(name, _score(found), found, each.magnitudes, each.lost_at(self.axes))
            for name, found, each in zip(
                names_of(self.terms),
                _maps(self.of_biases, len(self.terms)),
                self.terms,
                strict=True,
            )
        ]
        return Decomposition(
            self.output, inputs[0] if count == 1 else tuple(inputs), biases, self.delta
        )

    def combined(self, sign: Sign, aggregation: Aggregation) -> tuple[Tensor, ...]:
        """The T-Grad attribution of each input."""
        with torch.no_grad(), without_autocast(self.output):
            return tuple(
                combine(
                    contribution,
                    own,
                    [each for each in self.of_biases if each.number == own.number],
                    to_cells,
                    sign,
                    aggregation,
                )
                for contribution, own, to_cells in zip(
                    self.contributions, self.of_inputs, self.reductions, strict=True
                )
            )


def _maps(stacks: Sequence[StackedMaps], count: int) -> list[dict[int, TermMap]]:
    """For each term, its map on each input on which it depends, by the input's number."""
    found: list[dict[int, TermMap]] = [{} for _ in range(count)]
    for stack in stacks:
        for position, each in zip(stack.positions, stack.maps(), strict=True):
            found[position][stack.number] = each
    return [dict(sorted(each.items())) for each in found]


def _score(maps: dict[int, TermMap]) -> Tensor:
    """The score of a term, of which each input has a share."""
    first, *others = (each.score for each in maps.values())
    return sum(others, start=first)
