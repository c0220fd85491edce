"""The views of a page, and their numbers and maps as JSON."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.arguments import check_sample
from captum_tgrad._support.printable import printable
from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.term import Term

LEVELS = 255
"""The largest value of a cell; the smallest is 0."""

MOST_CELLS = 224
"""The maximum number of cells along a side, so that pages stay small."""


@dataclass(frozen=True)
class View:
    """One view of ``walkthrough_page``: an output and its terms.

    Attributes:
        name: The label of the view, such as ``"espresso"``.
        decomposition: The terms of the output, for one image input.
        output: A name for the output, such as ``"the logit of espresso"``.
        speaks_for: The label of positive evidence, such as ``"for espresso"``.
        speaks_against: The label of negative evidence.
    """

    name: str
    decomposition: Decomposition
    output: str = "the output"
    speaks_for: str = "for"
    speaks_against: str = "against"


def check_views(views: Sequence[View], sample: int) -> tuple[int, int]:
    """The height and width of the input that all views of a page explain.

    Raises TypeError or ValueError for views that cannot share a page.
    """
    if not views:
        raise ValueError("views is empty: pass at least one")
    sizes = set()
    for view in views:
        if not isinstance(view, View) or not isinstance(view.decomposition, Decomposition):
            raise TypeError(
                f"views must hold View(name, decomposition) with a Decomposition, got {view!r}"
            )
        shape = view.decomposition.inputs[0].positive.shape
        if len(shape) != 4 or len(view.decomposition.inputs) != 1:
            raise ValueError(
                f"view {view.name!r} explains {len(view.decomposition.inputs)} inputs with maps of"
                f" shape {tuple(shape)}: a page supports one input of images (N, C, H, W)"
            )
        check_sample(sample, shape[0])
        if not all(bool(term.score[sample].isfinite()) for term in view.decomposition):
            raise ValueError(f"the view {view.name!r} has scores that are not finite")
        sizes.add((shape[2], shape[3]))
    if len(sizes) > 1:
        raise ValueError(f"views have inputs of different sizes: {sorted(sizes)}")
    return next(iter(sizes))


def numbers_of(view: View, sample: int) -> dict[str, Any]:
    """A view for the page. All numbers are those of the decomposition; only maps are rounded."""
    whole = view.decomposition
    scores = [float(term.score[sample]) for term in whole]
    sums = {
        "for": sum(score for score in scores if score > 0),
        "against": -sum(score for score in scores if score < 0),
    }
    maps = {
        "for": whole.map("positive")[sample, 0],
        "against": whole.map("negative")[sample, 0],
    }
    # The page is drawn at the resolution of the input: it cannot show finer maps.
    most = [min(side, MOST_CELLS) for side in maps["for"].shape]
    terms = [_term(term, sample, sums, most) for term in whole]
    for number, term in enumerate(terms, 1):
        term["label"] = f"{number} of {len(terms)}: {term['name']} adds {signed(term['score'])}"
    return {
        "name": printable(view.name),
        "summary": printable(_summary(view, scores, sample)),
        "output": float(whole.output[sample]),
        "outputName": printable(view.output),
        "residual": float(whole.delta[sample]),
        "sides": {"for": printable(view.speaks_for), "against": printable(view.speaks_against)},
        "sums": sums,
        "maps": {side: stored_map(values) for side, values in maps.items()},
        "terms": terms,
    }


def signed(value: float) -> str:
    r"""A number with its sign: three decimals, or three digits where it is small.

    Example:
        >>> signed(1.25), signed(0.0321), ascii(signed(-0.5))
        ('+1.250', '+0.0321', "'\\u22120.500'")
    """
    if abs(value) >= 0.1 or value == 0:
        text = f"{value:+.3f}"
    elif abs(value) >= 1e-3:
        text = f"{value:+.3g}"
    else:
        mantissa, exponent = f"{value:+.2e}".split("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def _term(term: Term, sample: int, sums: dict[str, float], most: Sequence[int]) -> dict[str, Any]:
    score = float(term.score[sample])
    own = {"for": max(score, 0.0), "against": max(-score, 0.0)}
    evidence = {"for": term.positive[sample], "against": term.negative[sample]}
    placed = term.positive.dim() == 4
    return {
        "name": printable(term.name),
        "score": score,
        "shares": {side: own[side] / sums[side] if sums[side] else 0.0 for side in own},
        "evidence": {side: float(each.double().sum()) for side, each in evidence.items()},
        "resolution": term.resolution if placed else "",
        "placed": float(term.placed[sample]),
        "maps": {
            side: stored_map(each[0] if placed else each.sum().reshape(1, 1), most)
            for side, each in evidence.items()
        },
    }


def _summary(view: View, scores: Sequence[float], sample: int) -> str:
    whole = view.decomposition
    count = f"{len(scores) - 1} bias terms add" if len(scores) != 2 else "one bias term adds"
    return (
        f"{view.output[:1].upper()}{view.output[1:]} is {signed(float(whole.output[sample]))}: the"
        f" input adds {signed(scores[0])}, {count} {signed(sum(scores[1:]))}, and the residual is"
        f" {signed(float(whole.delta[sample]))}."
    )


def stored_map(values: Tensor, most: Sequence[int] = (MOST_CELLS, MOST_CELLS)) -> dict[str, Any]:
    """A map as JSON: its size, its largest value, and its cells in base64.

    A cell holds ``q = round(255 * sqrt(value / largest))``, and is read as
    ``largest * (q / 255) ** 2``: it is off by at most ``largest / 255``, and by less where it is
    small. Equal steps would turn most of a map to 0: it has many small values and a few large ones.
    ``values`` are ``(h, w)`` and nowhere negative; with more than ``most`` cells along a side, they
    are averaged.

    Example:
        >>> stored_map(torch.tensor([[0.0, 1.0], [2.0, 4.0]]))
        {'size': [2, 2], 'largest': 4.0, 'cells': 'AIC0/w=='}
    """
    values = values.detach().cpu().double()
    size = [min(pair) for pair in zip(values.shape, most, strict=True)]
    values = F.interpolate(values[None, None], size, mode="area")[0, 0]
    largest = float(values.max())
    levels = (values / largest if largest > 0 else values).sqrt().mul(LEVELS).round()
    cells = bytes(levels.to(torch.uint8).flatten().tolist())
    return {"size": size, "largest": largest, "cells": base64.b64encode(cells).decode("ascii")}
