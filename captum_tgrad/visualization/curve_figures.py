"""Insertion and deletion curves of one or several methods, with the perturbed images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from captum_tgrad._support.arguments import check_numbers, check_sample, got
from captum_tgrad.metrics.baselines import Preset
from captum_tgrad.metrics.registry import HIGHER_IS_BETTER
from captum_tgrad.metrics.results import InsertionDeletionResult
from captum_tgrad.visualization.arguments import by_method
from captum_tgrad.visualization.image_arrays import Array, Numbers, as_images
from captum_tgrad.visualization.layout import (
    NORMAL,
    SMALL,
    WIDTH,
    finish_plot,
    stacked_parts,
    wrapped,
    write_title,
)
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.visualization.panels import draw_picture
from captum_tgrad.visualization.perturbed_images import (
    CURVES,
    curve_baselines,
    replaced_and_shares,
)

_MOST_FRACTIONS = 5
_CURVES_HEIGHT = 3.4
_LEGEND_COLUMNS = 2
_LEGEND_LINE = 0.17
_PICTURE_HEIGHT = 1.95
_HEADING_HEIGHT = 0.5
_LETTERS = 20
_PAST_TENSE = {"insertion": "inserted", "deletion": "deleted"}

# A perturbed image of a curve, and the share of its pixels that is replaced.
_Panel = tuple[str, Array, float]


def curves_figure(
    results: InsertionDeletionResult | Mapping[str, InsertionDeletionResult],
    sample: int = 0,
    *,
    inputs: Tensor | None = None,
    attributions: Tensor | Mapping[str, Tensor] | None = None,
    baselines: Any = None,
    preset: Preset = "paper",
    fractions: Sequence[float] = (0.1, 0.25, 0.5),
    title: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Figure:
    """Draws the insertion and deletion curves of one sample; legends show the areas, best first.

    With ``inputs`` and ``attributions``, the figure also shows the images with 10, 25 and 50% of
    the pixels inserted and deleted, one row per method in ``attributions``.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 5.

    Args:
        results: The result of ``insertion_deletion(..., return_curves=True)``, or a dict by method.
        sample: The index of the sample in the batch.
        inputs: The scored inputs, ``(N, C, H, W)``.
        attributions: The scored attributions, ``(N, C, H, W)`` or coarser; a dict by method if
            ``results`` is one, for some or all methods.
        baselines: As passed to ``insertion_deletion``.
        preset: As passed to ``insertion_deletion``.
        fractions: The fractions of the pixels to show, at most five. Groups of ties and patches are
            replaced as a whole, as in the score.
        title: The title of the figure.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The results have no curves, ``sample`` is out of range, only one of ``inputs``
            and ``attributions`` is passed, attributions of the sample hold NaN or inf, or shapes do
            not match.

    Example:
        >>> import torch
        >>> from captum_tgrad.metrics import insertion_deletion
        >>> from captum_tgrad.visualization import curves_figure
        >>> model = torch.nn.Linear(4, 1, bias=False)
        >>> inputs = torch.ones(1, 4)
        >>> result = insertion_deletion(model, inputs, model.weight * inputs, return_curves=True)
        >>> [axes.get_title() for axes in curves_figure(result).axes]
        ['Insertion: higher is better', 'Deletion: lower is better']
    """
    methods = by_method(results, "results")
    _check_results(methods, sample)
    if (inputs is None) != (attributions is None):
        missing = "inputs" if inputs is None else "attributions"
        raise ValueError(f"{missing} is missing: pass both inputs and attributions, or neither")
    if inputs is not None and isinstance(attributions, Mapping) != isinstance(results, Mapping):
        both = "a dict by method, as results is" if isinstance(results, Mapping) else "one tensor"
        raise TypeError(f"attributions must be {both}, got {got(attributions)}")
    fractions = check_numbers(fractions, "fractions")
    if not 1 <= len(fractions) <= _MOST_FRACTIONS:
        raise ValueError(
            f"fractions has {len(fractions)} entries, and there is room for 1 to {_MOST_FRACTIONS}:"
            " draw the others in another figure"
        )
    panels: dict[str, list[_Panel]] = {}
    if inputs is not None:
        scored = by_method(attributions, "attributions")
        for name, attribution in scored.items():
            _check_scored(name, methods, sample, inputs, attribution)
        # For the whole batch, as in the score: a callable may depend on all inputs.
        resolved = curve_baselines(inputs, baselines, preset)
        one = slice(sample, sample + 1)
        for name, attribution in scored.items():
            replaced, shares = replaced_and_shares(
                inputs[one],
                attribution[one],
                {curve: baseline[one] for curve, baseline in resolved.items()},
                fractions,
                methods[name].protocol,
            )
            panels[name] = [
                (curve, picture, share)
                for curve in CURVES
                for picture, share in zip(
                    as_images(replaced[curve][0], mean, std), shares[0].tolist(), strict=True
                )
            ]
    lines = math.ceil(len(methods) / _LEGEND_COLUMNS) + 1
    heights = [_CURVES_HEIGHT + lines * _LEGEND_LINE]
    if panels:
        heights.append(len(panels) * _PICTURE_HEIGHT + _HEADING_HEIGHT)
    upper, *lower = stacked_parts(WIDTH, heights)
    for axes, curve in zip(upper.subplots(1, 2, sharey=True), CURVES, strict=True):
        _draw_curves(axes, methods, curve, sample)
    for part in lower:
        _draw_images(part, panels, methods, fractions, sample)
    write_title(upper, title)
    return upper.figure


def _check_results(methods: Mapping[str, Any], sample: int) -> None:
    for name, result in methods.items():
        where = f"results[{name!r}]" if name else "results"
        if not isinstance(result, InsertionDeletionResult):
            raise TypeError(
                f"{where} must be a result of insertion_deletion, got {type(result).__name__}"
            )
        if result.fractions is None:
            raise ValueError(f"{where} has no curves: pass return_curves=True to the metric")
        check_sample(sample, len(result.insertion))


def _check_scored(
    name: str, methods: Mapping[str, Any], sample: int, inputs: Tensor, attribution: Any
) -> None:
    if name not in methods:
        raise ValueError(f"attributions has {name!r}, but results has {', '.join(methods)}")
    for argument, tensor in (("inputs", inputs), ("attributions", attribution)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{argument} must be tensors, got {got(tensor)}")
        if len(tensor) != len(methods[name].insertion):
            raise ValueError(
                f"{argument} has {len(tensor)} samples, but the results have"
                f" {len(methods[name].insertion)}: pass the scored tensors"
            )
    if not attribution[sample].isfinite().all():
        where = f"attributions[{name!r}]" if name else "attributions"
        raise ValueError(
            f"{where} holds NaN or inf in sample {sample}, which cannot be ranked: leave it out"
        )


def _draw_curves(
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
        ncols=min(len(methods), _LEGEND_COLUMNS),
        fontsize=SMALL,
        title_fontsize=SMALL,
        frameon=False,
    )


def _draw_images(
    part: SubFigure,
    panels: Mapping[str, Sequence[_Panel]],
    methods: Mapping[str, InsertionDeletionResult],
    fractions: Sequence[float],
    sample: int,
) -> None:
    """Draws the perturbed images of each method with their scores."""
    grid = part.subplots(len(panels), 2 * len(fractions), squeeze=False)
    headings = [f"{each:.0%} {_PAST_TENSE[curve]}" for curve in CURVES for each in fractions]
    for axes, heading in zip(grid[0], headings, strict=True):
        axes.set_title(heading, fontsize=SMALL)
    for row, (name, of_method) in zip(grid, panels.items(), strict=True):
        row[0].set_ylabel(wrapped(name, _LETTERS), fontsize=SMALL)
        for axes, (curve, picture, share) in zip(row, of_method, strict=True):
            draw_picture(axes, picture)
            score = np.interp(share, *_points(methods[name], curve, sample))
            axes.set_xlabel(f"{score:.3f}", fontsize=SMALL, labelpad=2)
    part.supxlabel(f"below each image: its {_score(methods)}", fontsize=SMALL)


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
