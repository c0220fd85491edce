"""The similarity of maps to that of the trained network under randomization."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure, SubFigure

from captum_tgrad.sanity_checks.cascade import RandomizationStep
from captum_tgrad.visualization.arguments import by_method
from captum_tgrad.visualization.layout import SMALL, WIDTH, finish_plot, wrapped, write_title
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.visualization.notebook_figure import new_figure

_HEIGHT = 3.6
_MOST_NAMES = 10
_LETTERS = 18
_MEASURES = {"spearman": "rank correlation", "ssim": "SSIM"}
# For the two measures of one method; distinct with every kind of color vision.
_COLORS = ("#d55e00", "#0072b2")


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
        >>> similarity_figure(steps).axes[0].get_xlabel()
        'layer randomized last'
    """
    methods = {name: checked_steps(each) for name, each in by_method(steps, "steps").items()}
    layers = {name: [step.layer for step in each] for name, each in methods.items()}
    first = next(iter(layers.values()))
    for name, each in layers.items():
        if each != first:
            raise ValueError(f"steps of {name!r} have other layers than the first method")
    figure = new_figure(WIDTH, _HEIGHT)
    draw_similarity(figure, methods, evenly_spaced(len(first), _MOST_NAMES))
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


def evenly_spaced(steps: int, count: int) -> list[int]:
    """At most ``count`` of the numbers of the steps, from the first to the last."""
    return [*map(int, np.unique(np.linspace(0, steps - 1, min(count, steps)).round()))]


def draw_similarity(
    figure: Figure | SubFigure,
    methods: Mapping[str, Sequence[RandomizationStep]],
    named: Sequence[int],
) -> None:
    """Draws the two panels, with ticks at the steps ``named``; all methods have the same steps."""
    steps, *others = methods.values()
    names = [wrapped(steps[number].layer or "trained", _LETTERS, lines=1) for number in named]
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, (measure, title) in zip(panels, _MEASURES.items(), strict=True):
        lines = [(name, _means(each, measure)) for name, each in methods.items()]
        styles = [*method_styles([*methods]).values()]
        if not others:
            styles = [{"color": each, "linestyle": "-", "linewidth": 1.5} for each in _COLORS]
            one, other = _means(steps, measure), _means(steps, f"{measure}_absolute")
            lines = [(title, one)]
            # The two are equal for maps without negative values.
            if not np.allclose(one, other, 1e-9, 1e-9, equal_nan=True):
                lines.append((f"{title} of absolute values", other))
        for (label, means), style in zip(lines, styles, strict=False):
            axes.plot(range(len(means)), means, label=label, marker="o", markersize=3, **style)
        if len(lines) > 1:
            axes.legend(fontsize=SMALL, frameon=False, loc="best")
        axes.axhline(0, color=rcParams["text.color"], linewidth=0.6)
        axes.set_xticks(named, names, rotation=35, ha="right", rotation_mode="anchor")
        axes.set(xlabel="layer randomized last", ylabel=f"{title}\nwith the trained map")
        finish_plot(axes)


def _means(steps: Sequence[RandomizationStep], measure: str) -> list[float]:
    return [float(getattr(step, measure).nanmean()) for step in steps]
