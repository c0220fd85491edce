"""Stacks the maps of terms with the same cells, because many small tensors are slow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.maps.summing import InputSums, TermSums
from captum_tgrad.decomposition.term import TermMap


@dataclass(frozen=True)
class StackedMaps:
    """The maps of several terms, or of an input's share of them, on the same cells of the input.

    Args:
        number: The input's number.
        positions: The index of each stacked term in the list of all terms.
        positive: ``sum ReLU(a)`` in each cell, with ``a = gradient * b``: shape
            ``(terms, N, 1, *cells)``, or ``(terms, N, 1)`` if they have no place on the input.
        negative: ``sum ReLU(-a)``; the same shape.
        score: ``sum a``, shape ``(terms, N)``.
        placed: The share of the evidence that has a place, shape ``(terms, N)``.
        grid: The cells; None if the terms have no place on the input.
    """

    number: int
    positions: Sequence[int]
    positive: Tensor
    negative: Tensor
    score: Tensor
    placed: Tensor
    grid: Grid | None

    def negated(self) -> StackedMaps:
        """The maps of the negated output: the evidence against the target becomes that for it."""
        return replace(self, positive=self.negative, negative=self.positive, score=-self.score)

    def maps(self) -> list[TermMap]:
        """The maps of each term."""
        rows = zip(self.positive, self.negative, self.score, self.placed, strict=True)
        return [TermMap(*row, self.grid) for row in rows]


def stacked_maps(terms: Sequence[TermSums]) -> list[StackedMaps]:
    """The maps of all terms, from their sums."""
    groups: dict[object, list[StackedMaps]] = {}
    for part in _parts(terms):
        on_cells = (part.number, part.score.dtype, None if part.grid is None else part.grid.key)
        groups.setdefault(on_cells, []).append(part)
    stacks = [parts[0] if len(parts) == 1 else _joined(parts) for parts in groups.values()]
    if len({stack.number for stack in stacks}) > 1:
        _unify_scores(stacks, terms)
    return stacks


def _unify_scores(stacks: Sequence[StackedMaps], terms: Sequence[TermSums]) -> None:
    """Uses the score on the first input for all inputs, whose cells round the sum differently."""
    scores: dict[int, Tensor] = {}
    for stack in stacks:
        for row, position in enumerate(stack.positions):
            if terms[position].has_equal_shares and len(terms[position].by_input) > 1:
                score = scores.setdefault(position, stack.score[row].clone())
                stack.score[row] = score


def _parts(terms: Sequence[TermSums]) -> Iterator[StackedMaps]:
    """Stacks of the terms with one reduction, or with sums of one shape that already are cells."""
    groups: dict[tuple[int, object, object], dict[Reduction, list[tuple[int, InputSums]]]] = {}
    for position, term in enumerate(terms):
        for number, sums in term.by_input.items():
            way = sums.to_cells if sums.to_cells.indices else sums.signed.shape
            how = (number, sums.signed.dtype, way)
            alike = groups.setdefault(how, {}).setdefault(sums.to_cells, [])
            alike.append((position, sums))
    for (number, *_), by_cells in groups.items():
        maps = _in_cells([sums for alike in by_cells.values() for _, sums in alike])
        rows = [maps]
        if len(by_cells) > 1:
            sizes = [len(alike) for alike in by_cells.values()]
            rows = list(zip(*(torch.split(each, sizes) for each in maps), strict=True))
        for (to_cells, alike), own in zip(by_cells.items(), rows, strict=True):
            positions = [position for position, _ in alike]
            yield StackedMaps(number, positions, *own, to_cells.grid)


def _joined(stacks: Sequence[StackedMaps]) -> StackedMaps:
    """One stack of the maps of several stacks on the same cells."""
    positions = [position for stack in stacks for position in stack.positions]
    first, maps = stacks[0], _maps(torch.cat, stacks)
    return StackedMaps(number=first.number, positions=positions, grid=first.grid, **maps)


def _maps(join: Callable[[list[Tensor]], Tensor], parts: Sequence[Any]) -> dict[str, Tensor]:
    """The maps, scores and shares of several parts of a stack, joined."""
    names = ("positive", "negative", "score", "placed")
    return {name: join([getattr(part, name) for part in parts]) for name in names}


def _in_cells(sums: Sequence[InputSums]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``positive``, ``negative``, ``score`` and ``placed`` of a stack of terms."""
    to_cells = sums[0].to_cells
    collected = torch.stack([*(each.signed for each in sums), *(each.absolute for each in sums)])
    cells, unplaced = to_cells.into_cells(collected)
    signed, absolute = cells.chunk(2)
    score = signed.flatten(2).sum(2)
    placed = torch.zeros_like(score) if to_cells.grid is None else torch.ones_like(score)
    if unplaced is not None:
        rest, absolute_rest = unplaced.chunk(2)
        score = score + rest
        if to_cells.grid is not None:
            known = absolute.flatten(2).sum(2)
            placed = torch.where(absolute_rest > 0, known / (known + absolute_rest), 1)
        signed, absolute = to_cells.with_unplaced(cells, unplaced).chunk(2)
    # sum ReLU(a) = (sum |a| + sum a) / 2, which needs no rectified copy of the activation.
    # Rounding may leave -eps where the sum is zero.
    positive = torch.lerp(absolute, signed, 0.5)
    negative = (positive - signed).clamp_min_(0)
    return positive.clamp_min_(0), negative, score, placed


def stacks_of(maps: Sequence[TermMap], number: int) -> list[StackedMaps]:
    """The maps of several terms on the input with this number."""
    groups: dict[object, list[int]] = {}
    for position, each in enumerate(maps):
        key = (each.score.dtype, None if each.grid is None else each.grid.key)
        groups.setdefault(key, []).append(position)
    stacks = []
    for positions in groups.values():
        alike = [maps[position] for position in positions]
        own = _maps(torch.stack, alike)
        stacks.append(StackedMaps(number=number, positions=positions, grid=alike[0].grid, **own))
    return stacks


def scores_of(stacks: Sequence[StackedMaps]) -> Tensor:
    """The scores of all terms in order, shape ``(terms, N)``."""
    scores = torch.cat([stack.score for stack in stacks])
    positions = [position for stack in stacks for position in stack.positions]
    if positions == list(range(len(positions))):
        return scores
    index = torch.tensor(positions, device=scores.device)
    # The score of a term on several inputs is the sum of their shares.
    return scores.new_zeros(max(positions) + 1, scores.shape[1]).index_add_(0, index, scores)
