"""Which terms of a decomposition a figure shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from torch import Tensor

from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.decomposition.combine import Sign
from captum_tgrad.decomposition.terms import Decomposition


def scores_of(decomposition: Decomposition, sample: int) -> list[float]:
    """What each term adds to the output of one sample, the inputs first, then in forward order.

    Raises:
        TypeError: It is no decomposition.
        ValueError: There is no such sample.
    """
    if not isinstance(decomposition, Decomposition):
        raise TypeError(
            f"decomposition must be a Decomposition, got {type(decomposition).__name__}: pass what"
            " TGradAttribution(model).decompose(...) returns"
        )
    samples = len(decomposition.output)
    if not 0 <= sample < samples:
        raise ValueError(f"sample is {sample}: there are {samples} samples, counted from 0")
    return [float(term.score[sample]) for term in decomposition.terms]


def choose_terms(
    decomposition: Decomposition, sample: int, terms: int | Sequence[str], sign: Sign
) -> list[int]:
    """The terms to draw, in forward order.

    Args:
        decomposition: With one sample or more.
        sample: Which of them.
        terms: How many: those of the inputs, and of the others the largest; or their names.
        sign: Largest in which direction; for ``"all"``, the furthest from 0.

    Returns:
        Their places in ``decomposition.terms``.

    Raises:
        TypeError: An argument is of the wrong kind.
        ValueError: There is no such sample, term or sign.
    """
    scores = scores_of(decomposition, sample)
    if sign not in get_args(Sign):
        raise ValueError(f"sign must be 'positive', 'negative' or 'all', got {sign!r}")
    if isinstance(terms, (str, Tensor)):
        raise TypeError(f"terms must be a number or a list of names, got {type(terms).__name__}")
    if not isinstance(terms, int):
        return sorted({_index_of(name, decomposition) for name in terms})
    inputs = len(decomposition.inputs)
    if terms < 1:
        raise ValueError(f"terms must be 1 or more, got {terms}")

    def size(index: int) -> float:
        score = scores[index]
        return abs(score) if sign == "all" else score if sign == "positive" else -score

    others = sorted(range(inputs, len(scores)), key=size, reverse=True)
    return [*range(inputs), *sorted(others[: max(terms - inputs, 0)])]


def _index_of(name: Any, decomposition: Decomposition) -> int:
    names = [term.name for term in decomposition.terms]
    if name in names:
        return names.index(name)
    otherwise = "[term.name for term in decomposition.terms] has them"
    raise ValueError(
        f"terms names {name!r}, and there is no such term:"
        f" {did_you_mean(name, names, otherwise, show=repr)}"
    )
