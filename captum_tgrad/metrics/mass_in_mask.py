"""Localization by mass: how much of a map is on the object."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.localizing import Measure, localization_metric
from captum_tgrad.metrics.engine.regions import Regions
from captum_tgrad.metrics.results import EnergyInMaskResult, MassAccuracyResult, RankAccuracyResult


def share_in_mask(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of the sum of each map that is in its mask; 0 for a map of zeros."""
    largest = maps.amax((1, 2), keepdim=True)
    maps = maps / torch.where(largest == 0, 1, largest)  # at most 1, so that no sum overflows
    total = maps.sum((1, 2))
    return torch.where(total == 0, 0, torch.where(masks, maps, 0).sum((1, 2)) / total)


def _share_of_highest(maps: Tensor, masks: Tensor, k: int | None) -> Tensor:
    places = maps[0].numel()
    if k is not None and k > places:
        raise ValueError(f"k is {k}, but the maps have {places} pixels.")
    values, order = maps.flatten(1).sort(1, descending=True)
    inside = masks.flatten(1).gather(1, order)
    # A sample without a region becomes NaN later; 0 would index the last pixel here.
    count = inside.sum(1).clamp_min(1) if k is None else torch.full_like(order[:, 0], k)
    last = values.gather(1, count[:, None] - 1)
    above, tied = values > last, values == last
    left = count - above.sum(1)
    share = (inside & tied).sum(1).to(maps.dtype) / tied.sum(1)
    return ((inside & above).sum(1) + left * share) / count


@localization_metric(EnergyInMaskResult)
def energy_in_mask(
    attributions: Tensor | Mapping[str, Tensor],
    regions: Regions,
    *,
    size: tuple[int, int] | None = None,
    channel_dim: int | None = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
) -> Measure:
    """The share of the positive attribution on the object: the energy-based pointing game.

    The share is ``sum of m in the region / sum of m``, where ``m`` is the positive part of the map.
    A map without positive values scores 0, as in sukrutrao/Attribution-Evaluation. For maps without
    negative values, it equals ``RelevanceMassAccuracy`` and ``AttributionLocalisation`` of Quantus.

    Arguments and errors are those of ``pointing_game``, without ``tolerance``. Higher is better.

    Source: Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, "Score-CAM: Score-Weighted Visual
    Explanations for Convolutional Neural Networks", 2020, section 4.3.

    Returns:
        The shares and their chance level; for a dict of attributions, a dict of results.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[3.0, 1.0], [-2.0, 0.0]]]])
        >>> energy_in_mask(maps, torch.tensor([[[True, False], [True, False]]])).energy_in_mask
        tensor([0.7500])
    """
    return Measure(
        lambda maps, masks: share_in_mask(maps.clamp_min(0), masks),
        "their energy is spread evenly",
    )


@localization_metric(MassAccuracyResult)
def mass_accuracy(
    attributions: Tensor | Mapping[str, Tensor],
    regions: Regions,
    *,
    size: tuple[int, int] | None = None,
    channel_dim: int | None = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
) -> Measure:
    """The share of the absolute attribution that is on the object.

    The share is ``sum of m in the region / sum of m``, where ``m`` is the absolute value of the
    map; 0 if the map is 0. For maps without negative values, it equals ``energy_in_mask``. The
    paper pools channels to a non-negative value. With ``abs=True``, ``RelevanceMassAccuracy`` of
    Quantus is the same; without it, that metric divides signed sums and is unbounded.

    Arguments and errors are those of ``pointing_game``, without ``tolerance``. Higher is better.

    Source: Arras, Osman and Samek, "CLEVR-XAI: A benchmark dataset for the ground truth evaluation
    of neural network explanations", 2022, "relevance mass accuracy".

    Returns:
        The shares and their chance level; for a dict of attributions, a dict of results.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[3.0, 1.0], [-2.0, 0.0]]]])
        >>> mass_accuracy(maps, torch.tensor([[[True, False], [False, True]]])).mass_accuracy
        tensor([0.5000])
    """
    return Measure(
        lambda maps, masks: share_in_mask(maps.abs(), masks), "their mass is spread evenly"
    )


@localization_metric(RankAccuracyResult)
def rank_accuracy(
    attributions: Tensor | Mapping[str, Tensor],
    regions: Regions,
    *,
    k: int | None = None,
    size: tuple[int, int] | None = None,
    channel_dim: int | None = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
) -> Measure:
    """The share of the ``k`` pixels with the highest attribution that are on the object.

    If pixels tie at rank ``k``, the result is the mean over all orders of the ties; Quantus uses
    one order. A constant map scores its chance level. With ``k=None``, this is
    ``RelevanceRankAccuracy`` of Quantus; with a number, ``TopKIntersection``. Negative attributions
    rank lowest.

    ``k`` is a number of pixels; None: the size of the sample's region. The other arguments and the
    errors are those of ``pointing_game``, without ``tolerance``. Higher is better.

    Source: Arras, Osman and Samek, "CLEVR-XAI: A benchmark dataset for the ground truth evaluation
    of neural network explanations", 2022, "relevance rank accuracy".

    Returns:
        The shares and their chance level; for a dict of attributions, a dict of results.

    Example:
        >>> import torch
        >>> maps = torch.tensor([[[[3.0, 1.0], [2.0, 0.0]]]])
        >>> rank_accuracy(maps, torch.tensor([[[True, False], [False, True]]])).rank_accuracy
        tensor([0.5000])
    """
    if k is not None:
        k = check_count(k, "k")
    return Measure(
        partial(_share_of_highest, k=k),
        "none of their pixels ranks above others",
        protocol={"k": "pixels in the region" if k is None else k},
    )
