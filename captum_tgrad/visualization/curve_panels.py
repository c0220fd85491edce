"""The parts of a figure of curves: the curves with their areas, and the perturbed images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from captum_tgrad.metrics.registry import HIGHER_IS_BETTER
from captum_tgrad.metrics.results import InsertionDeletionResult
from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.visualization.layout import NORMAL, SMALL, finish_plot, wrapped
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.visualization.panels import draw_picture
from captum_tgrad.visualization.perturbed_images import CURVES

LEGEND_COLUMNS = 2

_LETTERS = 20
_PAST_TENSE = {"insertion": "inserted", "deletion": "deleted"}


def draw_curves(
    axes: Axes, methods: Mapping[str, InsertionDeletionResult], curve: str, sample: int
) -> None:
    """Draws one of the two curves of every method, with the areas below in the legend."""
    areas = {name: float(getattr(result, curve)[sample]) for name, result in methods.items()}
    styles = method_styles([*methods])
    for name, result in methods.items():
        axes.plot(
            *_points(result, curve, sample),
            **styles[name],
            label=f"{areas[name]:.3f}  {name}",
        )
    higher = HIGHER_IS_BETTER[curve]
    axes.set_title(
        f"{curve.capitalize()}: {'higher' if higher else 'lower'} is better", fontsize=NORMAL
    )
    axes.set(xlabel=f"pixels {_PAST_TENSE[curve]}", ylabel=_score(methods))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.margins(x=0.01)
    finish_plot(axes)
    best = sorted(zip(areas.values(), axes.lines, strict=True), key=lambda pair: pair[0])
    axes.legend(
        handles=[line for _, line in (reversed(best) if higher else best)],
        title="area, best first" if len(methods) > 1 else "area",
        loc="upper center",
        bbox_to_anchor=(0.5, -0.17),
        ncols=min(len(methods), LEGEND_COLUMNS),
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
    )


class PerturbedImages(NamedTuple):
    """Perturbed images of a curve, and the shares of the pixels that are replaced in each."""

    images: Mapping[str, Sequence[Array]]
    shares: Sequence[float]


def draw_perturbed_images(
    figure: Any,
    perturbed: Mapping[str, PerturbedImages],
    methods: Mapping[str, InsertionDeletionResult],
    fractions: Sequence[float],
    sample: int,
) -> None:
    """Draws the perturbed images of each method with their scores."""
    grid = figure.subplots(len(perturbed), 2 * len(fractions), squeeze=False)
    columns = [(curve, number) for curve in CURVES for number in range(len(fractions))]
    for axes, (curve, number) in zip(grid[0], columns, strict=True):
        axes.set_title(f"{fractions[number]:.0%} {_PAST_TENSE[curve]}", fontsize=SMALL)
    for row, (name, shown) in zip(grid, perturbed.items(), strict=True):
        row[0].set_ylabel(wrapped(name, _LETTERS), fontsize=SMALL)
        for axes, (curve, number) in zip(row, columns, strict=True):
            draw_picture(axes, shown.images[curve][number])
            score = np.interp(shown.shares[number], *_points(methods[name], curve, sample))
            axes.set_xlabel(f"{score:.3f}", fontsize=SMALL, labelpad=2)
    figure.supxlabel(f"below each image: its {_score(methods)}", fontsize=SMALL)


def _score(methods: Mapping[str, InsertionDeletionResult]) -> str:
    """What the results measure; a general name if their scores differ."""
    scores = {str(result.protocol["score"]) for result in methods.values()}
    score = scores.pop() if len(scores) == 1 else "score"
    return {"softmax": "probability", "logit": "output"}.get(score, score)


def _points(result: Any, curve: str, sample: int) -> tuple[Array, Array]:
    """The fractions and the scores of one curve."""
    both = result.fractions, getattr(result, f"{curve}_curve")
    fractions, scores = (each[sample].detach().cpu().double().numpy() for each in both)
    return fractions, scores
