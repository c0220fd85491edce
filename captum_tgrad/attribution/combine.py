"""From the terms to one map: ``sum_i phi(S_i) * score_i`` (the paper's eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.redistribute import redistribute
from captum_tgrad.decomposition.terms import Term

Sign = Literal["positive", "negative", "all"]

_INTERPOLATION_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def check_sign(sign: object) -> None:
    """Raises ValueError unless it is one of the three."""
    if sign not in get_args(Sign):
        raise ValueError(f"sign must be 'positive', 'negative' or 'all', got {sign!r}.")


def combine(
    contribution: Tensor, input_term: Term, biases: Sequence[Term], sign: Sign = "positive"
) -> Tensor:
    """The T-Grad attribution of one input.

    The input's term keeps its channels; the biases belong to no channel of the input and are
    shared equally among them.

    Args:
        contribution: ``df/dx * x``, shape ``(N, C, *spatial)``, ``(N, features)`` or ``(N,)``.
        input_term: The term of this input.
        biases: The bias terms that this input reaches.
        sign: ``"positive"`` for the evidence for the target, ``"negative"`` for the evidence
            against it (both non-negative), ``"all"`` for their difference.

    Returns:
        The attribution, shaped like ``contribution``.
    """
    if sign == "all":
        evidence_for = combine(contribution, input_term, biases, "positive")
        return evidence_for - combine(contribution, input_term, biases, "negative")
    direction = 1 if sign == "positive" else -1
    evidence = (contribution * direction).clamp_min_(0)
    mass = evidence.flatten(1).sum(1) if evidence.dim() > 1 else evidence
    weight = _share(mass, input_term.score * direction)
    attribution = evidence.mul_(per_sample(weight, evidence))
    samples, spatial = contribution.shape[0], contribution.shape[2:]
    channels = contribution.shape[1] if contribution.dim() > 1 else 1
    shared = _bias_map(biases, spatial, sign, attribution.new_zeros(samples, 1, *spatial))
    return attribution.add_(
        shared.div_(channels).reshape(samples, *[1] * (contribution.dim() > 1), *spatial)
    )


def _bias_map(biases: Sequence[Term], spatial: torch.Size, sign: Sign, total: Tensor) -> Tensor:
    """``sum_i phi(S_i) * score_i``, added to ``total`` of shape ``(N, 1, *spatial)``.

    ``phi(S) = enlarge(S) / sum(enlarge(S))``, and enlarging is linear: the maps of one size are
    weighted and added up as they are, and only their sum is enlarged.
    """
    groups: dict[tuple[torch.Size, torch.dtype], list[tuple[Tensor, Tensor]]] = {}
    for term in biases:
        size = term.positive.shape[2:]
        evidence = term.positive if sign == "positive" else term.negative
        if len(size) != len(spatial):  # no place on this input: spread evenly
            size = torch.Size([1] * len(spatial))
            evidence = evidence.flatten(1).sum(1).reshape(-1, 1, *size)
        score = term.score if sign == "positive" else -term.score
        groups.setdefault((size, evidence.dtype), []).append((evidence, score))
    for (size, dtype), group in groups.items():
        evidence = torch.stack([evidence for evidence, _ in group])
        weights = _enlarged_sum(size, spatial, dtype, evidence.device)
        mass = (evidence * weights).flatten(2).sum(2)
        share = _share(mass, torch.stack([score for _, score in group]))
        weighted = evidence * share.reshape(*share.shape, *[1] * (evidence.dim() - 2))
        total += enlarge(weighted.sum(0), spatial)
    return total


def _share(mass: Tensor, score: Tensor) -> Tensor:
    """``ReLU(score) / mass``: what each unit of a map weighs; 0 for a map without mass."""
    return torch.where(mass > 0, score.clamp_min(0) / mass, 0)


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """``values``, shape ``(N,)``, to multiply a tensor shaped like ``like`` with."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def enlarge(evidence: Tensor, spatial: torch.Size) -> Tensor:
    """A map at the spatial size of an input: linear interpolation of the right dimension.

    Where the map is the finer one, it is averaged: interpolation would look at few of its cells.
    """
    if evidence.shape[2:] == spatial:
        return evidence
    size = evidence.shape[2:]
    coarser = [min(own, wanted) for own, wanted in zip(size, spatial, strict=True)]
    if coarser != list(size):
        evidence = redistribute(evidence, coarser) * (math.prod(coarser) / math.prod(size))
    mode = _INTERPOLATION_MODES[len(spatial)]
    return F.interpolate(evidence, spatial, mode=mode, align_corners=False)


@lru_cache(maxsize=256)
def _enlarged_sum(
    size: torch.Size, spatial: torch.Size, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """How much each cell of a map of ``size`` weighs in the sum of the enlarged map."""
    with torch.inference_mode(False), torch.enable_grad():
        cells = torch.ones(1, 1, *size, dtype=dtype, device=device, requires_grad=True)
        (weights,) = torch.autograd.grad(enlarge(cells, spatial).sum(), cells)
    return weights
