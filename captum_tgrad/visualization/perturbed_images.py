"""The perturbed images of insertion and deletion curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_numbers, got
from captum_tgrad._support.input_checks import broken_samples, listed
from captum_tgrad.decomposition.precision import in_double_precision
from captum_tgrad.metrics.baselines import Preset
from captum_tgrad.metrics.engine.baseline_forms import resolve_each
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    pooled,
)
from captum_tgrad.metrics.engine.ranking import Ties, count_of, rank

CURVES = ("insertion", "deletion")


def replaced_images(
    inputs: Tensor,
    attributions: Tensor,
    baselines: Any = None,
    fractions: Sequence[float] = (0.1, 0.25, 0.5),
    *,
    preset: Preset = "paper",
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    ties: Ties = "stable",
    patch_size: int | None = None,
) -> dict[str, Tensor]:
    """The images with fractions of their most important pixels inserted or deleted.

    ``inputs`` and ``attributions`` are tensors, the inputs ``(N, C, H, W)``. ``fractions`` of the
    pixels are from 0 to 1. The other arguments, which determine the ranking and the baselines, are
    those of ``captum_tgrad.metrics.insertion_deletion``.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 5.

    Returns:
        A dict with ``"insertion"`` and ``"deletion"``, each ``(N, fractions, C, H, W)``.

    Raises:
        TypeError: ``inputs`` or ``attributions`` is not a tensor, or a baseline has the wrong type.
        ValueError: A shape or a name is invalid, a fraction is not between 0 and 1, or
            ``attributions`` holds NaN or inf.

    Example:
        >>> import torch
        >>> image = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]])
        >>> found = replaced_images(image, image, baselines=0, fractions=[0.25])
        >>> found["insertion"].flatten().tolist(), found["deletion"].flatten().tolist()
        ([0.0, 0.0, 0.0, 4.0], [1.0, 2.0, 3.0, 0.0])
    """
    protocol = {
        "channel_reduce": channel_reduce,
        "interpolate_mode": interpolate_mode,
        "ties": ties,
        "patch_size": patch_size,
    }
    resolved = curve_baselines(inputs, baselines, preset)
    return replaced_and_shares(inputs, attributions, resolved, fractions, protocol)[0]


def curve_baselines(inputs: Any, baselines: Any, preset: Preset) -> dict[str, Tensor]:
    """The baseline of each curve, shaped like the inputs.

    Raises TypeError or ValueError unless the inputs are images.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs must be a tensor, got {got(inputs)}")
    if inputs.dim() != 4:
        raise ValueError(f"inputs must be images (N, C, H, W), got {tuple(inputs.shape)}")
    resolved = resolve_each(baselines, preset, CURVES, (inputs.detach(),), (False,), (1,))
    return {curve: tensors[0] for curve, (tensors, _) in resolved.items()}


def replaced_and_shares(
    inputs: Tensor,
    attributions: Any,
    baselines: Mapping[str, Tensor],
    fractions: Sequence[float],
    protocol: Mapping[str, Any],
) -> tuple[dict[str, Tensor], Tensor]:
    """``replaced_images``, and the shares of pixels that are replaced, ``(N, fractions)``.

    Pixels are ranked as the ``protocol`` of a result says. The shares differ from ``fractions``
    where groups of ties or patches are replaced as a whole.
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(f"attributions must be a tensor, got {got(attributions)}")
    fractions = check_numbers(fractions, "fractions")
    if not fractions:
        raise ValueError("fractions is empty: give at least one, from 0 to 1")
    for fraction in fractions:
        if not 0 <= fraction <= 1:
            raise ValueError(f"fractions must be from 0 to 1, got {fraction}")
    inputs = inputs.detach()
    maps = importance_maps(
        attributions, (inputs,), protocol["channel_reduce"], protocol["interpolate_mode"]
    )
    broken = broken_samples(pooled(maps))
    if bool(broken.any()):
        raise ValueError(
            f"attributions holds NaN or inf in sample {listed(broken)}, which cannot be ranked:"
            " leave these samples out"
        )
    pixels = inputs.shape[2] * inputs.shape[3]
    ranking = rank(maps, pixels, protocol["ties"], protocol.get("patch_size"))
    (replaced_at,) = ranking.points
    assert replaced_at is not None
    steps = ranking.counts.shape[1] - 1  # of one pixel, or of one patch
    points = [count_of(fraction, steps) for fraction in fractions]
    of_fraction = torch.tensor(points, device=replaced_at.device).reshape(-1, 1, 1, 1)
    gone = replaced_at[:, None, None] <= of_fraction
    image = inputs[:, None]
    images = {
        "insertion": torch.where(gone, image, baselines["insertion"][:, None]),
        "deletion": torch.where(gone, baselines["deletion"][:, None], image),
    }
    return images, in_double_precision(ranking.counts[:, points]) / pixels
