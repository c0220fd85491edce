"""Stacks the maps of terms with the same cells, because many small tensors are slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps import Reduced, Sums
from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.term import Term, TermMap


@dataclass(frozen=True)
class Stack:
    """The maps of several terms, or of an input's share of them, on the same cells of the input.

    Args:
        number: The input's number.
        terms: The index of each stacked term in the list of all terms.
        positive: ``sum ReLU(a)`` in each cell, with ``a = gradient * b``: shape
            ``(terms, N, 1, *cells)``, or ``(terms, N, 1)`` if they have no place on the input.
        negative: ``sum ReLU(-a)``; the same shape.
        score: ``sum a``, shape ``(terms, N)``.
        placed: The share of the evidence that has a place, shape ``(terms, N)``.
        grid: The cells; None if the terms have no place on the input.
    """

    number: int
    terms: Sequence[int]
    positive: Tensor
    negative: Tensor
    score: Tensor
    placed: Tensor
    grid: Grid | None

    def evidence(self, direction: int) -> Tensor:
        """``positive`` for the direction 1, ``negative`` for -1."""
        return self.positive if direction == 1 else self.negative

    def maps(self) -> list[TermMap]:
        """The maps of each term."""
        rows = zip(self.positive, self.negative, self.score, self.placed, strict=True)
        return [TermMap(*row, self.grid) for row in rows]


def stacked(terms: Sequence[Reduced]) -> list[Stack]:
    """The maps of all terms, from their sums."""
    groups: dict[tuple[int, torch.dtype, object], list[tuple[int, Sums]]] = {}
    for position, term in enumerate(terms):
        for number, sums in term.sums.items():
            key = None if sums.grid is None else sums.grid.key
            groups.setdefault((number, sums.signed.dtype, key), []).append((position, sums))
    stacks = []
    scores: dict[int, Tensor] = {}
    for (number, _, _), members in groups.items():
        signed = torch.stack([sums.signed for _, sums in members])
        absolute = torch.stack([sums.absolute for _, sums in members])
        score = signed.flatten(2).sum(2)
        grid = members[0][1].grid
        placed = torch.zeros_like(score) if grid is None else torch.ones_like(score)
        if any(sums.unplaced is not None for _, sums in members):
            unplaced, absolute_unplaced = _unplaced([sums for _, sums in members], score)
            score = score + unplaced
            in_cells = absolute.flatten(2).sum(2)
            if grid is not None:
                placed = torch.where(
                    absolute_unplaced > 0, in_cells / (in_cells + absolute_unplaced), 1
                )
            # Elements without a place are spread evenly over the cells.
            per_cell = [*score.shape, *[1] * (signed.dim() - 2)]
            share = _unplaced_shares([sums for _, sums in members], signed)
            signed = signed + unplaced.reshape(per_cell) * share
            absolute = absolute + absolute_unplaced.reshape(per_cell) * share
        # sum ReLU(a) = (sum |a| + sum a) / 2, which needs no rectified copy of the activation.
        # Rounding may leave -eps where the sum is zero.
        positive = torch.lerp(absolute, signed, 0.5)
        negative = (positive - signed).clamp_min_(0)
        positions = [position for position, _ in members]
        for row, position in enumerate(positions):
            # The cells of each input round the sum differently: use the score of the first input.
            if terms[position].has_equal_shares and len(terms[position].sums) > 1:
                score[row] = scores.setdefault(position, score[row].clone())
        positive.clamp_min_(0)
        stacks.append(Stack(number, positions, positive, negative, score, placed, grid))
    return stacks


def _unplaced(sums: Sequence[Sums], like: Tensor) -> list[Tensor]:
    """``sum a`` and ``sum |a|`` of the elements without a place, each shaped like the score."""
    nothing = (like.new_zeros(like.shape[1]),) * 2
    pairs = [each.unplaced or nothing for each in sums]
    return [torch.stack(each) for each in zip(*pairs, strict=True)]


def _unplaced_shares(sums: Sequence[Sums], like: Tensor) -> Tensor | float:
    """The share of each cell in the evidence without a place, broadcastable to ``like``."""
    even = 1 / max(like[0, 0].numel(), 1)
    if all(each.unplaced_shares is None for each in sums):
        return even
    shares = torch.full_like(like, even)
    for share, each in zip(shares, sums, strict=True):
        if each.unplaced_shares is not None:
            share.copy_(each.unplaced_shares)
    return shares


def stacks_of(terms: Sequence[Term], number: int) -> list[Stack]:
    """The maps on one input of all terms that depend on it."""
    groups: dict[object, list[int]] = {}
    for position, term in enumerate(terms):
        if number in term.maps:
            grid = term.maps[number].grid
            key = (term.score.dtype, None if grid is None else grid.key)
            groups.setdefault(key, []).append(position)
    stacks = []
    for positions in groups.values():
        maps = [terms[position].maps[number] for position in positions]
        positive, negative, score, placed = (
            torch.stack([getattr(each, name) for each in maps])
            for name in ("positive", "negative", "score", "placed")
        )
        stacks.append(Stack(number, positions, positive, negative, score, placed, maps[0].grid))
    return stacks


def scores_of(stacks: Sequence[Stack]) -> list[Tensor]:
    """The scores of all terms in order, each of shape ``(N,)``."""
    scores: dict[int, Tensor] = {}
    for stack in stacks:
        for position, share in zip(stack.terms, stack.score, strict=True):
            scores[position] = scores[position] + share if position in scores else share
    return [scores[position] for position in sorted(scores)]
