"""The similarity of maps to that of the trained network under randomization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from captum_tgrad.sanity_checks.cascade import RandomizationStep
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.visualization.notebook_figure import new_figure
from captum_tgrad.visualization.panels import NORMAL, SMALL, WIDTH, wrapped, write_title

_HEIGHT = 3.6
_MOST_NAMES = 10
_LETTERS = 18
_MEASURES = {
    "spearman": "rank correlation",
    "spearman_absolute": "rank correlation of absolute values",
    "ssim": "SSIM",
    "ssim_absolute": "SSIM of absolute values",
}
# For the two measures of one method; distinct with every kind of color vision.
_COLORS = ("#d55e00", "#0072b2")
_PANELS = (("spearman", "spearman_absolute"), ("ssim", "ssim_absolute"))


def similarity_figure(
    steps: Iterable[RandomizationStep] | Mapping[str, Iterable[RandomizationStep]],
    *,
    title: str | None = None,
) -> Figure:
    """Draws the similarity to the map of the trained network after each randomized layer.

    The left plot shows Spearman's rank correlation, the right plot SSIM, averaged over the images.
    With one method, they also show the similarities of the absolute values. If a similarity is
    undefined, as for a constant map, the image is excluded from the mean.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", Fig. 4.

    Args:
        steps: The steps of ``captum_tgrad.sanity_checks.cascading_randomization`` for one method,
            or a dict by method.
        title: The title of the figure.

    Raises:
        TypeError: ``steps`` has the wrong type.
        ValueError: ``steps`` is empty, or methods have different steps.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.sanity_checks import cascading_randomization
        >>> from captum_tgrad.visualization import similarity_figure
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        >>> steps = cascading_randomization(model, TGradAttribution, torch.rand(2, 4), target=1)
        >>> similarity_figure(steps).axes[0].get_ylabel()
        'rank correlation'
    """
    by_method = steps if isinstance(steps, Mapping) else {"": steps}
    methods = {name: checked_steps(each) for name, each in by_method.items()}
    if not methods:
        raise ValueError("steps is empty: pass at least one method")
    layers = {name: [step.layer for step in each] for name, each in methods.items()}
    first = next(iter(layers.values()))
    for name, each in layers.items():
        if each != first:
            raise ValueError(f"steps of {name!r} have other layers than the first method")
    figure = new_figure(WIDTH, _HEIGHT)
    draw_similarity(figure, methods)
    write_title(figure, title)
    return figure


def checked_steps(steps: Any) -> list[RandomizationStep]:
    """Converts the steps to a list; raises TypeError for other objects, ValueError if empty."""
    if not isinstance(steps, Iterable):
        raise TypeError(f"steps must be a list of RandomizationStep, got {type(steps).__name__}")
    found = list(steps)
    if not found:
        raise ValueError(
            "steps is empty: cascading_randomization returns an iterator, which can be used only"
            " once; keep its steps with list(...)"
        )
    for step in found:
        if not isinstance(step, RandomizationStep):
            raise TypeError(f"steps must be RandomizationStep, got {type(step).__name__}")
    return found


def draw_similarity(
    figure: Figure | SubFigure, methods: Mapping[str, Sequence[RandomizationStep]]
) -> None:
    """Draws the two panels; all methods have the same steps."""
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, measures in zip(panels, _PANELS, strict=True):
        axes.set_ylabel(_MEASURES[measures[0]], fontsize=NORMAL)
        lines = [(name, _means(steps, measures[0])) for name, steps in methods.items()]
        styles = [*method_styles([*methods]).values()]
        if len(methods) == 1:
            (steps,) = methods.values()
            lines = [(_MEASURES[measure], _means(steps, measure)) for measure in measures]
            # The two are equal for maps without negative values.
            one, other = (means for _, means in lines)
            lines = lines[: 1 if np.allclose(one, other, 1e-9, 1e-9, equal_nan=True) else 2]
            styles = [{"color": each, "linestyle": "-", "linewidth": 1.5} for each in _COLORS]
        for (label, means), style in zip(lines, styles, strict=False):
            axes.plot(range(len(means)), means, label=label, marker="o", markersize=3, **style)
        _finish(axes, next(iter(methods.values())))


def _means(steps: Sequence[RandomizationStep], measure: str) -> list[float]:
    return [float(getattr(step, measure).nanmean()) for step in steps]


def _finish(axes: Axes, steps: Sequence[RandomizationStep]) -> None:
    names = ["trained", *(str(step.layer) for step in steps[1:])]
    if len(names) <= _MOST_NAMES:
        shown = [wrapped(name, _LETTERS, lines=1) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_xlabel("randomized layer")
    else:
        axes.set_xlabel(f"randomized layer, 1 to {len(names) - 1}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(0, color="black", linewidth=0.6)
    axes.xaxis.label.set_fontsize(NORMAL)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, labelleft=True)
    if len(axes.lines) > 2:  # the line at 0 is one of them
        axes.legend(fontsize=SMALL, frameon=False, loc="best")
