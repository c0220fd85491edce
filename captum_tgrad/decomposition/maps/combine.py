"""Combines the terms into one map: ``sum_i phi(S_i) * score_i`` (eq. 8), or by levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from captum_tgrad._support.arguments import check_choice
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.levels import levels_map
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.maps.stacks import StackedMaps, stacks_of
from captum_tgrad.decomposition.maps.weighted_maps import (
    WeightedMaps,
    per_sample,
    scale_factor,
    weighted_sum,
)
from captum_tgrad.decomposition.term import Term

Sign = Literal["positive", "negative", "all"]
Aggregation = Literal["paper", "levels"]


def check_options(sign: object, aggregation: object) -> None:
    """Raises ValueError unless ``sign`` and ``aggregation`` are known."""
    check_choice(sign, Sign, "sign")
    check_choice(aggregation, Aggregation, "aggregation")


def combine(
    contribution: Tensor,
    own: StackedMaps,
    biases: Sequence[StackedMaps],
    to_cells: Reduction,
    sign: Sign,
    aggregation: Aggregation,
) -> Tensor:
    """The T-Grad attribution of one input.

    By eq. 8, the input's term keeps its channels. The biases belong to no channel of the input, so
    they are divided equally among the channels. With ``aggregation="levels"``, all terms are. Only
    this input's share of a term counts.

    Args:
        contribution: ``df/dx * x``, shaped like the input.
        own: The term of the input.
        biases: The terms of all operations that depend on the input.
        to_cells: How the input's elements are summed into the cells of its map.
        sign: ``"positive"`` for the evidence for the target, ``"negative"`` for the evidence
            against it (both non-negative), ``"all"`` for their difference.
        aggregation: ``"paper"`` or ``"levels"``.

    Returns:
        The attribution, shaped like ``contribution``.
    """
    if sign == "all":
        evidence_for = combine(contribution, own, biases, to_cells, "positive", aggregation)
        return evidence_for - combine(contribution, own, biases, to_cells, "negative", aggregation)
    if sign == "negative":
        contribution = -contribution
        own, *biases = (each.negated() for each in (own, *biases))
    if aggregation == "levels" and own.grid is not None:
        cells = levels_map(own, biases)
        return to_cells.out_of_cells(cells, contribution).expand_as(contribution).clone()
    mass, weight = _input_map(own)
    attribution = contribution.clamp_min(0).mul_(to_cells.per_sample(weight, contribution))
    shared = _bias_map(biases, own.grid, mass)
    return attribution.add_(to_cells.out_of_cells(shared, attribution))


def t_grad_map(
    terms: Sequence[Term],
    number: int = 0,
    sign: Sign = "positive",
    aggregation: Aggregation = "paper",
) -> Tensor:
    """The attribution of one input, as :func:`combine`, summed over channels: ``(N, 1, *spatial)``.

    The terms are all terms of a decomposition.
    """
    if sign == "all":
        evidence_for = t_grad_map(terms, number, "positive", aggregation)
        return evidence_for - t_grad_map(terms, number, "negative", aggregation)
    first, *others = [term.maps[number] for term in terms if number in term.maps]
    (own,), biases = stacks_of([first], number), stacks_of(others, number)
    if sign == "negative":
        own, *biases = (each.negated() for each in (own, *biases))
    if aggregation == "levels" and own.grid is not None:
        return levels_map(own, biases)
    mass, weight = _input_map(own)
    return mass * per_sample(weight, mass) + _bias_map(biases, own.grid, mass)


def _input_map(own: StackedMaps) -> tuple[Tensor, Tensor]:
    """The map of the input's term, and for each sample the factor that scales it to its score."""
    mass = own.positive[0]
    return mass, scale_factor(mass.flatten(1).sum(1), own.score[0])


def _bias_map(biases: Sequence[StackedMaps], cells: Grid | None, like: Tensor) -> Tensor:
    """``sum_i phi(S_i) * score_i`` over the biases, on ``cells``, with the shape of ``like``."""
    maps = [WeightedMaps(each.positive, each.score, each.grid) for each in biases]
    return weighted_sum(maps, cells, like)
