"""The scores of all terms in forward order, and the choice of terms for a figure."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from captum_tgrad._support.arguments import check_choice, check_sample
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Sign
from captum_tgrad.visualization.arguments import number_or_names
from captum_tgrad.visualization.layout import SMALL, WIDTH, finish_plot, write_title
from captum_tgrad.visualization.notebook_figure import new_figure

_HEIGHT = 3.6
# The most bars with room for the names of their terms.
_MOST_NAMES = 24
_FAINT = 0.45
# Evidence for and against a class, in the diverging colors of maps.
_FOR, _AGAINST = "#b35806", "#542788"


def term_scores_figure(
    decomposition: Decomposition,
    sample: int = 0,
    *,
    highlight: int | Sequence[str] = 0,
    title: str | None = None,
) -> Figure:
    """Draws the contribution of each term to the output, in forward order.

    Source: Tran, Mai, Le and Le, "T-Grad", eq. 6: the bars add up to the output, except for the
    residual.

    Args:
        decomposition: The result of ``TGradAttribution(model).decompose``, for any inputs.
        sample: The index of the sample in the batch.
        highlight: The number of terms to label (the input's and the largest others), or their
            names.
        title: The title of the figure. None: the output.

    Raises:
        TypeError: ``decomposition`` or ``highlight`` has the wrong type.
        ValueError: The sample or a term is unknown.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.visualization import term_scores_figure
        >>> whole = TGradAttribution(torch.nn.Linear(2, 1)).decompose(torch.ones(1, 2), target=0)
        >>> (axes,) = term_scores_figure(whole).axes
        >>> [label.get_text() for label in axes.get_xticklabels()]
        ['input', 'linear']
    """
    chosen = []
    if not (isinstance(highlight, Integral) and highlight == 0):
        chosen = choose_terms(decomposition, sample, highlight, "all", "highlight")
    figure = new_figure(WIDTH, _HEIGHT)
    draw_scores(figure.subplots(), decomposition, sample, chosen)
    write_title(figure, title or f"output {float(decomposition.output[sample]):+.3f}")
    return figure


def draw_scores(
    axes: Axes, decomposition: Decomposition, sample: int, chosen: Sequence[int]
) -> None:
    """Draws a bar for every term; the chosen ones are numbered from 1, the others faint."""
    scores = scores_of(decomposition, sample)
    bars = axes.bar(
        range(len(scores)), scores, width=0.85, color=[_FOR if s > 0 else _AGAINST for s in scores]
    )
    for index, bar in enumerate(bars):
        if chosen and index not in chosen:
            bar.set_alpha(_FAINT)
    numbers = {index: str(number) for number, index in enumerate(chosen, 1)}
    labels = [numbers.get(index, "") for index in range(len(scores))]
    axes.bar_label(bars, labels, padding=2, fontsize=SMALL, fontweight="bold")
    axes.axhline(0, color=rcParams["text.color"], linewidth=0.8)
    axes.margins(x=0.01, y=0.15)
    order = "in forward order: the input, then what each operation adds"
    axes.set(xlabel=f"the {len(scores)} terms {order}", ylabel="score")
    _name_bars(axes, [term.name for term in decomposition.terms], len(decomposition.inputs))
    finish_plot(axes, grid=False)
    axes.legend(
        handles=[
            Patch(color=_FOR, label="for the class"),
            Patch(color=_AGAINST, label="against it"),
        ],
        fontsize=SMALL,
        frameon=False,
        loc="best",
        ncols=2,
    )


def _name_bars(axes: Axes, names: Sequence[str], inputs: int) -> None:
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        return
    steps = sorted({int(index) for index in axes.get_xticks() if inputs < index < len(names)})
    axes.set_xticks([0, *steps], ["input", *map(str, steps)])


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
    wanted = number_or_names(terms, argument)
    if isinstance(wanted, list):
        return sorted({_index_of(name, decomposition, argument) for name in wanted})
    inputs = len(decomposition.inputs)
    if wanted < 1:
        raise ValueError(f"{argument} must be 1 or more, got {wanted}")
    negated, absolute = [-score for score in scores], [abs(score) for score in scores]
    sizes = {"positive": scores, "negative": negated, "all": absolute}[sign]
    others = sorted(range(inputs, len(scores)), key=sizes.__getitem__, reverse=True)
    return [*range(inputs), *sorted(others[: max(wanted - inputs, 0)])]


def _index_of(name: Any, decomposition: Decomposition, argument: str) -> int:
    names = [term.name for term in decomposition.terms]
    if name in names:
        return names.index(name)
    otherwise = "see [term.name for term in decomposition.terms]"
    advice = did_you_mean(name, names, otherwise, show=repr)
    raise ValueError(f"term {name!r} in {argument} not found: {advice}")
