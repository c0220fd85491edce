"""Chooses the terms of a decomposition for a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from captum_tgrad._support.arguments import check_choice, check_sample
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.decomposition.combine import Sign
from captum_tgrad.decomposition.terms import Decomposition


def scores_of(decomposition: Decomposition, sample: int) -> list[float]:
    """The scores of all terms for one sample; raises TypeError or ValueError for bad arguments."""
    if not isinstance(decomposition, Decomposition):
        raise TypeError(
            f"decomposition must be a Decomposition, got {type(decomposition).__name__}: pass the"
            " result of TGradAttribution(model).decompose(...)"
        )
    check_sample(sample, len(decomposition.output))
    return [float(term.score[sample]) for term in decomposition.terms]


def choose_terms(
    decomposition: Decomposition,
    sample: int,
    terms: int | Sequence[str],
    sign: Sign,
    argument: str = "terms",
) -> list[int]:
    """The indices of the terms to draw, in forward order.

    Arguments and errors are those of ``layers_figure``; ``argument`` names ``terms`` in messages.
    """
    scores = scores_of(decomposition, sample)
    check_choice(sign, Sign, "sign")
    if isinstance(terms, (str, Tensor)) or not isinstance(terms, (int, Iterable)):
        kind = type(terms).__name__
        raise TypeError(f"{argument} must be a number or a list of names, got {kind}")
    if not isinstance(terms, int):
        return sorted({_index_of(name, decomposition, argument) for name in terms})
    inputs = len(decomposition.inputs)
    if terms < 1:
        raise ValueError(f"{argument} must be 1 or more, got {terms}")
    negated, absolute = [-score for score in scores], [abs(score) for score in scores]
    sizes = {"positive": scores, "negative": negated, "all": absolute}[sign]
    others = sorted(range(inputs, len(scores)), key=sizes.__getitem__, reverse=True)
    return [*range(inputs), *sorted(others[: max(terms - inputs, 0)])]


def _index_of(name: Any, decomposition: Decomposition, argument: str) -> int:
    names = [term.name for term in decomposition.terms]
    if name in names:
        return names.index(name)
    otherwise = "see [term.name for term in decomposition.terms]"
    advice = did_you_mean(name, names, otherwise, show=repr)
    raise ValueError(f"term {name!r} in {argument} not found: {advice}")
