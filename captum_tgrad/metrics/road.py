"""ROAD: replaces pixels with noisy means of their neighbors, most or least relevant first.

A model may recognize the shape of a region that a baseline replaces. Imputation from neighbors
leaks little of the shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count, check_number, check_numbers
from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.input_checks import ChannelDim, broken_samples
from captum_tgrad._support.warn import warn_user
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode, pooled
from captum_tgrad.metrics.engine.linear_imputation import linear_imputation
from captum_tgrad.metrics.engine.metric import metric
from captum_tgrad.metrics.engine.metric_call import Attributions, MetricCall, Scores
from captum_tgrad.metrics.engine.ranking import count_of
from captum_tgrad.metrics.engine.scorer import Score
from captum_tgrad.metrics.results import RoadResult


def _scores(call: MetricCall, *, percentages: Sequence[float], noise: float, seed: int) -> Scores:
    """The scores of the inputs with imputed pixels, for each method."""
    percentages, noise = check_numbers(percentages, "percentages"), check_number(noise, "noise")
    seed = check_count(seed, "seed", least=0)
    images = _checked_images(call, percentages, noise).nan_to_num(0, 0, 0)
    generator = torch.Generator().manual_seed(seed)
    # The same noise for all samples and methods.
    drawn = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64, device="cpu")
    noises = (noise * drawn).to(images)
    rankings = [_ranked(call, method, seed) for method in call.maps]
    further = 2 * len(percentages) * len(rankings) * call.samples
    with call.clean_scores(call.name, further) as (clean, buffer):
        orders = [order for both in rankings for order in both]
        scores = clean.new_empty(len(rankings), 2, len(percentages), call.samples)
        cases = product(orders, percentages)
        for (order, percentage), of_case in zip(cases, scores.flatten(0, 2), strict=True):
            first = order[:, : count_of(percentage / 100, order.shape[1])]
            missing = torch.zeros_like(order, dtype=torch.bool).scatter_(1, first, value=True)
            missing = missing.reshape(-1, *images.shape[2:])
            for here in buffer.chunks(call.samples):
                filled = linear_imputation(images[here], missing[here])
                filled = torch.where(missing[here, None], filled + noises, filled)
                buffer.add((filled,), here, of_case)
    # Where 0 replaced NaN and inf, these are not the scores of the input.
    scores.masked_fill_(broken_samples(call.inputs[0]).to(clean.device), torch.nan)
    found = []
    for method, both in zip(call.maps, scores.transpose(2, 3), strict=True):
        omitted = call.omitted(torch.cat([clean[:, None], *both], 1), method)
        most, least = both.masked_fill(omitted[:, None], torch.nan)
        found.append({"most_relevant_scores": most, "least_relevant_scores": least})
    baseline = f"noisy linear imputation (noise={noise:g})"
    return call.protocol(baseline, percentages=percentages, seed=seed), found


def _road(**fields: Any) -> RoadResult:
    clean = fields["clean_score"]
    most = fields["most_relevant_scores"].mean(1) - clean
    least = fields["least_relevant_scores"].mean(1) - clean
    return RoadResult(
        road=(least - most) / 2, most_relevant_first=most, least_relevant_first=least, **fields
    )


@metric(_scores, _road)
def road(
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Attributions | Mapping[str, Attributions],
    additional_forward_args: object | None = None,
    target: TargetType = None,
    percentages: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    max_examples_per_batch: int = 64,
    *,
    noise: float = 0.01,
    score: Score = "softmax",
    channel_dim: ChannelDim = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
    seed: int = 0,
    show_progress: bool = False,
) -> Any:
    """The change of the score when pixels are imputed, most and least relevant first.

    At each percentage, ``floor(percentage * pixels / 100)`` pixels are imputed. Linear equations
    make each of them a weighted mean of its eight neighbors, and Gaussian noise is added. As in
    ``ROADCombined`` of pytorch-grad-cam, the result is
    ``(mean change with the least relevant first - mean change with the most relevant first) / 2``.
    Higher is better.

    The counts are those of the authors' code (tleemann/road_evaluation) and of Quantus, which
    reports accuracy instead of scores. pytorch-grad-cam uses a percentile of the map as the
    threshold, which differs by at most one pixel if no two values are equal. Pixels of equal
    relevance are replaced in random order, as in the authors' code; pytorch-grad-cam replaces them
    together.

    Source: Rong, Leemann, Borisov, Kasneci and Kasneci, "A Consistent and Efficient Evaluation
    Strategy for Attribution Methods", 2022.

    ``inputs`` are one batch of images, ``(N, C, H, W)`` or with the channels in ``channel_dim``.
    ``percentages`` of pixels are above 0 and below 100. ``noise`` is the standard deviation of the
    noise, in units of ``inputs``. ``seed`` determines the order of ties and the noise, which is the
    same for all samples and methods; the global random state is not changed. The other arguments
    are those of ``insertion_deletion``.

    Returns:
        ROAD and its scores; for a dict of attributions, a dict of results.

    Raises:
        TypeError: As for ``insertion_deletion``, or ``inputs`` is not a float tensor.
        ValueError: As for ``insertion_deletion``, or ``inputs`` are not images, or ``percentages``
            or ``noise`` is out of range.

    Example:
        >>> import torch
        >>> images = torch.zeros(1, 1, 4, 4)
        >>> images[..., 1, 1] = 1.0
        >>> def model(images):
        ...     return images[:, 0, 1, 1]
        >>> result = road(model, images, images, percentages=[25], noise=0)
        >>> result.most_relevant_first, result.least_relevant_first, result.road
        (tensor([-1.]), tensor([0.]), tensor([0.5000]))
    """


def _checked_images(call: MetricCall, percentages: Sequence[float], noise: float) -> Tensor:
    """The images, ``(N, C, H, W)``; raises TypeError or ValueError for what ROAD cannot impute."""
    if not percentages or not all(0 < each < 100 for each in percentages):
        raise ValueError(
            "percentages must be above 0 and below 100, because the remaining pixels impute the"
            f" others, got {percentages}."
        )
    if max(percentages) < 1:
        warn_user(
            f"percentages are {percentages}, all below 1%. If they are fractions, pass 10 for a"
            " tenth of the pixels."
        )
    if not 0 <= noise < math.inf:
        raise ValueError(
            f"noise must be a standard deviation of 0 or more, and finite, got {noise}."
        )
    images = call.inputs[0]
    if len(call.inputs) != 1 or images.dim() != 4:
        shapes = ", ".join(str(tuple(each.shape)) for each in call.given_inputs())
        raise ValueError(
            f"inputs must be images (N, C, H, W), got shape {shapes}. For others, use"
            " insertion_deletion."
        )
    if not images.is_floating_point():
        raise TypeError(
            f"inputs has dtype {images.dtype}, which cannot hold imputed values: pass"
            " inputs.float()."
        )
    return images


def _ranked(call: MetricCall, method: str, seed: int) -> list[Tensor]:
    """The pixels, most and least relevant first, each ``(N, pixels)``."""
    call.findings.constant(call.constant[method], method, "their order is random")
    relevance = pooled(call.maps[method])
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(relevance.shape[1], generator=generator, device="cpu")
    shuffled = shuffled.to(relevance.device)
    return [
        shuffled[relevance[:, shuffled].sort(dim=1, descending=descending, stable=True).indices]
        for descending in (True, False)
    ]
