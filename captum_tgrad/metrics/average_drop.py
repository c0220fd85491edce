"""Average Drop and Increase in Confidence: the score of an input masked with its map.

The baseline and the sign of the map change these numbers as much as the method does. Average Drop /
Increase in Confidence in percent, EfficientNet-Lite0, the 20 ImageNet images of foolbox 3.3.4
(``benchmarks/masking_variants.py``):

==========================================  ===========  ===========  ================  ===========
``baselines``                               T-Grad       Grad-CAM     Input x Gradient  random
==========================================  ===========  ===========  ================  ===========
None: 0 in the normalized image             19.6 / 50    13.8 / 40    3.1 / 85          63.0 / 5
-127 / 128: 0 in the pixels, black          21.5 / 30    11.6 / 30    37.2 / 15         84.4 / 0
``mean_color``                              15.0 / 45    8.1 / 45     3.0 / 85          64.3 / 10
``blur()``                                  24.2 / 35    12.9 / 30    4.5 / 85          46.3 / 15
==========================================  ===========  ===========  ================  ===========

The first row masks the network's input, the second row masks the pixels; do not compare numbers of
different rows. A signed map, such as that of Input x Gradient, is near the middle of its range
almost everywhere: scaled to [0, 1], it dims the image instead of masking it. Take the evidence for
the class first: ``attributions.clamp_min(0)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad.attribution.complete import ChannelDim
from captum_tgrad.metrics.baselines import Baselines
from captum_tgrad.metrics.engine.checks import NanPolicy, listed
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.masking import Masked, masked_scores
from captum_tgrad.metrics.engine.metric import metric, same_arguments
from captum_tgrad.metrics.engine.metric_call import Attributions
from captum_tgrad.metrics.engine.scorer import Score
from captum_tgrad.metrics.results import AverageDropResult, IncreaseInConfidenceResult


def _drop(masked: Masked) -> AverageDropResult:
    clean = masked.clean_score
    nothing_to_lose = clean <= 0
    if masked.protocol["nan_policy"] == "raise" and bool(nothing_to_lose.any()):
        first = int(nothing_to_lose.nonzero()[0])
        raise ValueError(
            f"the score of sample {listed(nothing_to_lose)} is not positive (of sample {first} it"
            f" is {float(clean[first]):.3g}), so no share of it can be lost. Pass score='softmax'"
            " or, to get NaN for these samples, nan_policy='omit'."
        )
    drop = 100 * (clean - masked.masked_score).clamp_min(0) / clean
    drop = drop.masked_fill(nothing_to_lose, torch.nan)
    return AverageDropResult(drop.nanmean(), drop, clean, masked.masked_score, masked.protocol)


def _increase(masked: Masked) -> IncreaseInConfidenceResult:
    clean, left = masked.clean_score, masked.masked_score
    increase = (clean < left).to(clean) * 100
    increase = increase.masked_fill(torch.isnan(left) | torch.isnan(clean), torch.nan)
    return IncreaseInConfidenceResult(increase.nanmean(), increase, clean, left, masked.protocol)


@metric(masked_scores, _drop)
def average_drop(
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Attributions | Mapping[str, Attributions],
    baselines: Baselines = None,
    additional_forward_args: object | None = None,
    target: TargetType = None,
    max_examples_per_batch: int = 64,
    *,
    score: Score = "softmax",
    channel_dim: ChannelDim = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
    show_progress: bool = False,
) -> Any:
    """The percentage of its score that an input loses when it is masked with its map.

    With Y the score of the input and O the score of the masked input, ``baseline + map * (input -
    baseline)`` with the map scaled to [0, 1] per sample, the drop is ``100 * max(0, Y - O) / Y``.
    Lower is better. A constant map masks everything.

    Source: Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: Improved Visual
    Explanations for Deep Convolutional Networks", 2018, section 4.1.

    Args:
        forward_func: The model, or any function of it that returns one number per sample, ``(N,)``,
            or one per sample and class, ``(N, classes)``.
        inputs: A tensor or a tuple of tensors, ``(N, F)`` or ``(N, C, *spatial)``. The maps of
            several inputs are scaled together.
        attributions: Attributions of any Captum method for ``inputs``, or a dict of these by
            method. In a tuple, an input with None is not masked.
        baselines: What the masked part becomes: a number, a tensor, a callable, or for several
            inputs a tuple of these. None: 0, which in a normalized image is a mean color. To mask
            the pixels before normalization, pass what a black image is normalized to.
        additional_forward_args: Further arguments of ``forward_func``.
        target: The output to score, in any of Captum's forms. None: the only output, or the class
            predicted for the unchanged input.
        max_examples_per_batch: The most examples in one call of ``forward_func``.
        score: ``"softmax"``, ``"logit"``, or a callable ``(outputs, target) -> (N,)``.
        channel_dim: The channel dimension of ``inputs``; None if all dimensions are spatial.
        channel_reduce: The importance of a place: the ``"sum"`` over its channels, the sum of their
            magnitudes (``"abs"``), or ``"max"``.
        interpolate_mode: How coarse maps are enlarged, such as ``"bilinear"`` or ``"nearest"``.
        nan_policy: What NaN or inf does, or a score of the input that is not positive: ``"raise"``,
            or ``"omit"``: the result of this sample is NaN, and the mean leaves it out.
        show_progress: Whether to show a progress bar.

    Returns:
        The mean, the drop of each sample, and both scores; for a dict of attributions, a dict.

    Raises:
        TypeError: As for ``insertion_deletion``, or an input to mask holds integers.
        ValueError: As for ``insertion_deletion``, or the score of an input is not positive.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> result = average_drop(model, torch.ones(1, 2), torch.tensor([[3.0, 1.0]]))
        >>> result.average_drop, result.masked_score
        (tensor(25.), tensor([3.]))
    """


@metric(masked_scores, _increase)
@same_arguments(average_drop)
def increase_in_confidence(*args: Any, **kwargs: Any) -> Any:
    """The percentage of samples whose score rises when they are masked with their map.

    It takes the arguments of ``average_drop``, masks in the same way, and raises the same errors,
    except that a score need not be positive. Higher is better. Source: as for ``average_drop``.

    Returns:
        The percentage, 0 or 100 for each sample, and both scores; for a dict of attributions, a
        dict.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, -1.0]]))
        >>> inputs, maps = torch.ones(2, 2), torch.tensor([[3.0, -1.0], [-1.0, 3.0]])
        >>> increase_in_confidence(model, inputs, maps).increase
        tensor([100.,   0.])
    """
