"""The scores of all terms in forward order."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from captum_tgrad.decomposition.terms import Decomposition
from captum_tgrad.visualization.panels import (
    AGAINST,
    FOR,
    NORMAL,
    SMALL,
    WIDTH,
    write_title,
)
from captum_tgrad.visualization.shown import new_figure
from captum_tgrad.visualization.term_choice import choose_terms, scores_of

_HEIGHT = 3.6
# The most bars with room for the names of their terms.
_MOST_NAMES = 24
_FAINT = 0.45


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
    scores_of(decomposition, sample)  # raises for a bad argument before anything is drawn
    chosen = []
    if highlight != 0:
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
        range(len(scores)), scores, width=0.85, color=[FOR if s > 0 else AGAINST for s in scores]
    )
    for index, bar in enumerate(bars):
        if chosen and index not in chosen:
            bar.set_alpha(_FAINT)
    for number, index in enumerate(chosen, 1):
        axes.annotate(
            str(number),
            (index, scores[index]),
            xytext=(0, 2 if scores[index] >= 0 else -2),
            textcoords="offset points",
            ha="center",
            va="bottom" if scores[index] >= 0 else "top",
            fontsize=SMALL,
            fontweight="bold",
        )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.margins(x=0.01, y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_ylabel("score", fontsize=NORMAL)
    _name_bars(axes, [term.name for term in decomposition.terms], len(decomposition.inputs))
    axes.legend(
        handles=[Patch(color=FOR, label="for the class"), Patch(color=AGAINST, label="against it")],
        fontsize=SMALL,
        frameon=False,
        loc="best",
        ncols=2,
    )


def _name_bars(axes: Axes, names: Sequence[str], inputs: int) -> None:
    if len(names) <= _MOST_NAMES:
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        return
    steps = [index for index in axes.get_xticks() if inputs <= index < len(names)]
    steps = sorted({int(index) for index in steps if index > inputs})
    axes.set_xticks([0, *steps], ["input", *map(str, steps)])
    axes.set_xlabel(
        f"the {len(names)} terms in forward order: the input, then what each operation adds",
        fontsize=NORMAL,
    )
