"""From the terms to one map: ``sum_i phi(S_i) * score_i`` (the paper's eq. 8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import Grid
from captum_tgrad.decomposition.places.enlarging import enlarged, weights
from captum_tgrad.decomposition.places.reduction import Reduction
from captum_tgrad.decomposition.terms import Term

Sign = Literal["positive", "negative", "all"]


def check_sign(sign: object) -> None:
    """Raises ValueError unless it is one of the three."""
    if sign not in get_args(Sign):
        raise ValueError(f"sign must be 'positive', 'negative' or 'all', got {sign!r}.")


def combine(
    contribution: Tensor,
    number: int,
    terms: Sequence[Term],
    by: Reduction,
    sign: Sign = "positive",
) -> Tensor:
    """The T-Grad attribution of one input.

    The input's term keeps its channels; the biases belong to no channel of the input and are
    shared equally among them. A term that several inputs reach is shared equally among these.

    Args:
        contribution: ``df/dx * x``, shaped like the input.
        number: Which of the inputs it is.
        terms: All terms of the decomposition, this input's among them.
        by: How the input's elements are summed into the cells of its map.
        sign: ``"positive"`` for the evidence for the target, ``"negative"`` for the evidence
            against it (both non-negative), ``"all"`` for their difference.

    Returns:
        The attribution, shaped like ``contribution``.
    """
    if sign == "all":
        evidence_for = combine(contribution, number, terms, by, "positive")
        return evidence_for - combine(contribution, number, terms, by, "negative")
    own, *biases = [term for term in terms if number in term.inputs]
    direction = 1 if sign == "positive" else -1
    evidence = (contribution * direction).clamp_min_(0)
    mass = _evidence(own, number, sign)
    weight = _share(mass.flatten(1).sum(1), own.score * direction)
    attribution = evidence.mul_(by.per_sample(weight, evidence))
    shared = _bias_map(biases, number, own.maps[number].grid, sign, mass)
    return attribution.add_(by.out_of_cells(shared, attribution))


def t_grad_map(terms: Sequence[Term], number: int = 0) -> Tensor:
    """The T-Grad map of one input: its attribution, summed over channels.

    Args:
        terms: All terms of a decomposition.
        number: Which of the inputs it is.

    Returns:
        Shape ``(N, 1, *spatial)``.
    """
    own, *biases = [term for term in terms if number in term.inputs]
    mass = _evidence(own, number, "positive")
    weight = _share(mass.flatten(1).sum(1), own.score)
    return mass * per_sample(weight, mass) + _bias_map(
        biases, number, own.maps[number].grid, "positive", mass
    )


def _evidence(term: Term, number: int, sign: Sign) -> Tensor:
    found = term.maps[number]
    return found.positive if sign == "positive" else found.negative


def _bias_map(
    biases: Sequence[Term], number: int, cells: Grid | None, sign: Sign, like: Tensor
) -> Tensor:
    """``sum_i phi(S_i) * score_i`` on the cells of an input, shaped like its own map.

    ``phi(S) = enlarge(S) / sum(enlarge(S))``, and enlarging is linear: the maps of one grid are
    weighted and added up as they are, and only their sum is enlarged.
    """
    total = torch.zeros_like(like)
    groups: dict[object, list[tuple[Tensor, Tensor, Grid | None]]] = {}
    for term in biases:
        evidence = _evidence(term, number, sign)
        score = term.score if sign == "positive" else -term.score
        if len(term.inputs) > 1:
            score = score / len(term.inputs)
        # Without a place on the input, a term is spread evenly.
        grid = None if cells is None else term.maps[number].grid
        if grid is None:
            evidence = evidence.flatten(1).sum(1, keepdim=True)
        key = (evidence.dtype, None if grid is None else grid.key)
        groups.setdefault(key, []).append((evidence, score, grid))
    for group in groups.values():
        evidence = torch.stack([evidence for evidence, _, _ in group])
        scores = torch.stack([score for _, score, _ in group])
        grid = group[0][2]
        if grid is None or cells is None:
            mass = evidence.flatten(2).sum(2)
            even = (_share(mass, scores) * mass).sum(0) / like[0].numel()
            total += per_sample(even, total)
            continue
        mass = evidence
        for axis, weight in enumerate(weights(grid, cells), 3):
            mass = mass * weight.to(mass).reshape([-1] + [1] * (mass.dim() - axis - 1))
        share = _share(mass.flatten(2).sum(2), scores)
        weighted = evidence * share.reshape(*share.shape, *[1] * (evidence.dim() - 2))
        total += enlarged(weighted.sum(0), grid, cells)
    return total


def _share(mass: Tensor, score: Tensor) -> Tensor:
    """``ReLU(score) / mass``: what each unit of a map weighs; 0 for a map without mass."""
    return torch.where(mass > 0, score.clamp_min(0) / mass, 0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """``values``, shape ``(N,)``, to multiply a tensor shaped like ``like`` with."""
    return values.reshape(-1, *[1] * (like.dim() - 1))
