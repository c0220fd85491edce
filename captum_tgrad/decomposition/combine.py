"""Combines the terms into one map: ``sum_i phi(S_i) * score_i`` (eq. 8), or by levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor

from captum_tgrad.decomposition.levels import levels_map
from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.places.reduction import Reduction
from captum_tgrad.decomposition.term import Term
from captum_tgrad.decomposition.weighted_maps import (
    WeightedMap,
    per_sample,
    scaled,
    share,
    weighted_sum,
)

Sign = Literal["positive", "negative", "all"]
Aggregation = Literal["paper", "levels"]


def check_options(sign: object, aggregation: object) -> None:
    """Raises ValueError unless ``sign`` and ``aggregation`` are known."""
    if sign not in get_args(Sign):
        raise ValueError(f"sign must be 'positive', 'negative' or 'all', got {sign!r}.")
    if aggregation not in get_args(Aggregation):
        raise ValueError(f"aggregation must be 'paper' or 'levels', got {aggregation!r}.")


def combine(
    contribution: Tensor,
    number: int,
    terms: Sequence[Term],
    by: Reduction,
    sign: Sign = "positive",
    aggregation: Aggregation = "paper",
) -> Tensor:
    """The T-Grad attribution of one input.

    By eq. 8, the input's term keeps its channels. The biases belong to no channel of the input, so
    they are divided equally among the channels. By levels, all terms are. A term that depends on
    several inputs is divided equally among those inputs.

    Args:
        contribution: ``df/dx * x``, shaped like the input.
        number: The position of the input among the inputs.
        terms: All terms of the decomposition, including those of the inputs.
        by: How the input's elements are summed into the cells of its map.
        sign: ``"positive"`` for the evidence for the target, ``"negative"`` for the evidence
            against it (both non-negative), ``"all"`` for their difference.
        aggregation: ``"paper"`` or ``"levels"``.

    Returns:
        The attribution, shaped like ``contribution``.
    """
    if sign == "all":
        evidence_for = combine(contribution, number, terms, by, "positive", aggregation)
        return evidence_for - combine(contribution, number, terms, by, "negative", aggregation)
    own, *biases = reaching = [term for term in terms if number in term.inputs]
    direction = 1 if sign == "positive" else -1
    if aggregation == "levels" and own.maps[number].grid is not None:
        cells = levels_map(reaching, number, direction)
        return by.out_of_cells(cells, contribution).expand_as(contribution).clone()
    evidence = (contribution * direction).clamp_min_(0)
    mass = _evidence(own, number, sign)
    weight = share(mass.flatten(1).sum(1), own.score * direction)
    attribution = evidence.mul_(by.per_sample(weight, evidence))
    shared = _bias_map(biases, number, own.maps[number].grid, sign, mass)
    return attribution.add_(by.out_of_cells(shared, attribution))


def t_grad_map(
    terms: Sequence[Term],
    number: int = 0,
    sign: Sign = "positive",
    aggregation: Aggregation = "paper",
) -> Tensor:
    """The T-Grad map of one input: its attribution, summed over channels.

    Args:
        terms: All terms of a decomposition.
        number: The position of the input among the inputs.
        sign: As for ``combine``.
        aggregation: As for ``combine``.

    Returns:
        Shape ``(N, 1, *spatial)``.
    """
    if sign == "all":
        evidence_for = t_grad_map(terms, number, "positive", aggregation)
        return evidence_for - t_grad_map(terms, number, "negative", aggregation)
    own, *biases = reaching = [term for term in terms if number in term.inputs]
    direction = 1 if sign == "positive" else -1
    if aggregation == "levels" and own.maps[number].grid is not None:
        return levels_map(reaching, number, direction)
    mass = _evidence(own, number, sign)
    weight = share(mass.flatten(1).sum(1), own.score * direction)
    return mass * per_sample(weight, mass) + _bias_map(
        biases, number, own.maps[number].grid, sign, mass
    )


def _evidence(term: Term, number: int, sign: Sign) -> Tensor:
    found = term.maps[number]
    return found.positive if sign == "positive" else found.negative


def _bias_map(
    biases: Sequence[Term], number: int, cells: Grid | None, sign: Sign, like: Tensor
) -> Tensor:
    """``sum_i phi(S_i) * score_i`` on the cells of an input, shaped like its own map."""
    direction = 1 if sign == "positive" else -1
    maps = [
        WeightedMap(
            _evidence(term, number, sign),
            scaled(term.score, direction / len(term.inputs)),
            term.maps[number].grid,
        )
        for term in biases
    ]
    return weighted_sum(maps, cells, like)
