"""Average Drop and Increase in Confidence: the score of an input masked with its map.

The baseline affects both as much as the method does: see ``docs/measurements.md``, "What the masked
part goes to". A signed map scaled to [0, 1] dims the image instead of masking it. Pass
``attributions.clamp_min(0)``, the evidence for the class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.input_checks import ChannelDim, input_names, listed
from captum_tgrad.metrics.baselines import Baselines
from captum_tgrad.metrics.engine.baseline_forms import resolve
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    pooled,
    unpooled,
)
from captum_tgrad.metrics.engine.metric import metric, same_arguments
from captum_tgrad.metrics.engine.metric_call import Attributions, MetricCall, Scores
from captum_tgrad.metrics.engine.scorer import Score
from captum_tgrad.metrics.results import AverageDropResult, IncreaseInConfidenceResult


def masked_scores(call: MetricCall, *, baselines: Baselines) -> Scores:
    """The scores of the inputs masked with the maps of each method, ``(N,)``."""
    names = input_names(len(call.inputs))
    for name, tensor, frozen in zip(names, call.inputs, call.frozen, strict=True):
        if not (frozen or tensor.is_floating_point() or tensor.is_complex()):
            raise TypeError(
                f"{name} has dtype {tensor.dtype}, which cannot be masked by fractions: pass"
                f" {name}.float(), for token IDs their embeddings, or None as its attributions"
                " to leave it unmasked."
            )
    weights = [_weights(call, method) for method in call.maps]
    baseline, label = resolve(
        baselines, call.inputs, call.frozen, call.channel_dims, nan_policy=call.nan_policy
    )
    with call.clean_scores(call.name, call.samples * len(weights)) as (clean, buffer):
        scores = clean.new_empty(len(weights), call.samples)
        for of_inputs, of_method in zip(weights, scores, strict=True):
            for here in buffer.chunks(call.samples):
                examples = tuple(
                    # At 1, exactly the input.
                    tensor[here] if w is None else torch.lerp(other[here], tensor[here], w[here])
                    for other, tensor, w in zip(baseline, call.inputs, of_inputs, strict=True)
                )
                buffer.add(examples, here, of_method)
    found = []
    for method, masked in zip(call.maps, scores, strict=True):
        omitted = call.omitted(torch.stack([clean, masked], 1), method)
        found.append({"masked_score": masked.masked_fill(omitted, torch.nan)})
    return call.protocol(label), found


def _weights(call: MetricCall, method: str) -> list[Tensor | None]:
    """The maps, scaled to [0, 1] per sample over all inputs.

    Each broadcasts to its input. Constant maps become 0.
    """
    call.findings.constant(call.constant[method], method, "everything is masked")
    maps = call.maps[method]
    importance = pooled(maps)
    lowest, highest = importance.aminmax(dim=1, keepdim=True)
    span = highest - lowest
    scaled = unpooled(torch.where(span == 0, 0, (importance - lowest) / span), maps)
    weights: list[Tensor | None] = []
    for each, tensor in zip(scaled, call.inputs, strict=True):
        if each is not None:
            each = each.unsqueeze(1) if tensor.dim() > 2 else each.reshape(tensor.shape)
            each = each.to(tensor.dtype)
        weights.append(each)
    return weights


def _drop(clean_score: Tensor, masked_score: Tensor, protocol: dict[str, Any]) -> AverageDropResult:
    nothing_to_lose = clean_score <= 0
    if protocol["nan_policy"] == "raise" and bool(nothing_to_lose.any()):
        first = int(nothing_to_lose.nonzero()[0])
        positive = {
            "output": "a forward_func that returns a probability, such as"
            " lambda x: model(x).sigmoid()",
            # Probabilities that are rounded to 0.
            "softmax": "another target",
            "probability": "another target",
        }.get(protocol["score"], "score='softmax'")
        raise ValueError(
            f"the score of sample {listed(nothing_to_lose)} is not positive"
            f" ({float(clean_score[first]):.3g} for sample {first}), so the drop is undefined. Pass"
            f" {positive} or, to get NaN for these samples, nan_policy='omit'."
        )
    drop = 100 * (clean_score - masked_score).clamp_min(0) / clean_score
    drop = drop.masked_fill(nothing_to_lose, torch.nan)
    return AverageDropResult(drop.nanmean(), drop, clean_score, masked_score, protocol)


def _increase(
    clean_score: Tensor, masked_score: Tensor, protocol: dict[str, Any]
) -> IncreaseInConfidenceResult:
    increase = (clean_score < masked_score).to(clean_score) * 100
    increase = increase.masked_fill(torch.isnan(masked_score), torch.nan)
    mean = increase.nanmean()
    return IncreaseInConfidenceResult(mean, increase, clean_score, masked_score, protocol)


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

    The drop is ``100 * max(0, Y - O) / Y``. Y is the score of the input, and O the score of the
    masked input, ``baseline + map * (input - baseline)``, with the map scaled to [0, 1] per sample.
    Lower is better. A constant map masks everything.

    Source: Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: Generalized
    Gradient-based Visual Explanations for Deep Convolutional Networks", 2018, section 4.1.

    ``baselines`` replace the masked part: a number, a tensor, a callable, or for several inputs a
    tuple of these. None: 0, the mean color of the data set in a normalized image. To mask with
    black, pass a normalized black image. In a tuple of ``attributions``, None leaves an input
    unmasked; the maps of several inputs are scaled together. With ``nan_policy="omit"``, samples
    whose score is not positive are NaN and excluded from the mean. The other arguments are those of
    ``insertion_deletion``.

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

    Arguments, masking, errors and source are those of ``average_drop``, but scores may also be 0 or
    negative. Higher is better.

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
