"""Insertion and deletion curves of one or several methods, with the perturbed images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from captum_tgrad._support.arguments import check_numbers, check_sample, got
from captum_tgrad.metrics.baselines import Preset
from captum_tgrad.metrics.results import InsertionDeletionResult
from captum_tgrad.visualization.arguments import by_method
from captum_tgrad.visualization.curve_panels import (
    LEGEND_COLUMNS,
    PerturbedImages,
    draw_curves,
    draw_perturbed_images,
)
from captum_tgrad.visualization.image_arrays import Numbers, as_images
from captum_tgrad.visualization.layout import WIDTH, stacked_parts, write_title
from captum_tgrad.visualization.perturbed_images import (
    CURVES,
    curve_baselines,
    replaced_and_shares,
)

_MOST_FRACTIONS = 5
_CURVES_HEIGHT = 3.4
_LEGEND_LINE = 0.17
_PICTURE_HEIGHT = 1.95
_HEADING_HEIGHT = 0.5


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
    perturbed: dict[str, PerturbedImages] = {}
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
            shown = {curve: as_images(images[0], mean, std) for curve, images in replaced.items()}
            perturbed[name] = PerturbedImages(shown, shares[0].tolist())
    lines = math.ceil(len(methods) / LEGEND_COLUMNS) + 1
    heights = [_CURVES_HEIGHT + lines * _LEGEND_LINE]
    if perturbed:
        heights.append(len(perturbed) * _PICTURE_HEIGHT + _HEADING_HEIGHT)
    upper, *lower = stacked_parts(WIDTH, heights)
    for axes, curve in zip(upper.subplots(1, 2, sharey=True), CURVES, strict=True):
        draw_curves(axes, methods, curve, sample)
    for part in lower:
        draw_perturbed_images(part, perturbed, methods, fractions, sample)
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
