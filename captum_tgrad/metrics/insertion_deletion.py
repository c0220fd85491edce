"""Insertion and Deletion: the score as features are replaced in the order of their importance.

The forward passes of the model take nearly all the time. On a CPU, 4 to 8 examples per forward pass
and ``inputs.to(memory_format=torch.channels_last)`` are fastest: 35 ms per forward evaluation of
EfficientNet-Lite0 on one core, instead of 107 ms with 64 examples in the default format
(``benchmarks/metric_cost.py --tables chunks``). For other costs, see ``docs/cost.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.input_checks import ChannelDim
from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.areas import areas
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.metric import metric, same_arguments
from captum_tgrad.metrics.engine.metric_call import Attributions
from captum_tgrad.metrics.engine.ranking import Ties
from captum_tgrad.metrics.engine.scorer import Score
from captum_tgrad.metrics.results import DeletionResult, InsertionDeletionResult, InsertionResult


@metric(partial(areas, curves=("insertion", "deletion")), InsertionDeletionResult)
def insertion_deletion(
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Attributions | Mapping[str, Attributions],
    baselines: Baselines | Mapping[str, Baselines] = None,
    additional_forward_args: object | None = None,
    target: TargetType = None,
    n_steps: int = 224,
    max_examples_per_batch: int = 64,
    *,
    score: Score = "softmax",
    channel_dim: ChannelDim = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    ties: Ties = "stable",
    preset: Preset = "paper",
    nan_policy: NanPolicy = "raise",
    return_curves: bool = False,
    patch_size: int | None = None,
    show_progress: bool = False,
) -> Any:
    """The areas under the insertion and the deletion curve of each sample.

    Deletion starts at the input and replaces the most important features with the baseline first.
    Insertion starts at the baseline and restores the most important features first. The fraction of
    replaced features goes from 0 to 1, so an area is a mean score. A feature is a position with all
    its channels, or a column of a table. The features of several inputs are ranked together.

    With one baseline for both curves, ``difference`` is the symmetric relevance gain of Bluecher et
    al., because inserting the most important features is the reverse of occluding the least
    important ones. This is exact for maps without ties if ``n_steps`` divides the number of
    features or patches. Otherwise, the points differ by less than a step. It does not hold for
    ``preset="rise"``, which has two baselines.

    Source: Petsiuk, Das and Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box
    Models", 2018, section 4.3; ``preset="rise"`` with the same number of steps equals their code.
    Bluecher, Vielhaben and Strodthoff, "Decoupling Pixel Flipping and Occlusion Strategy for
    Consistent XAI Benchmarks", 2024.

    Args:
        forward_func: The model, or any function of it that returns one number per sample, ``(N,)``,
            or one per sample and class, ``(N, classes)``. Put the model in evaluation mode first.
        inputs: A tensor or a tuple of tensors, ``(N, F)`` or ``(N, C, *spatial)``, or with the
            channels in dimension ``channel_dim``.
        attributions: Attributions of any Captum method for ``inputs``: of the same shape, with one
            channel, or with one channel and coarser. For several inputs, a tuple, in which None
            leaves an input unchanged. For several methods, a dict by method, which computes shared
            scores once.
        baselines: The values that replace features: a number, a tensor whose dimensions are those
            of the inputs or 1, a callable from an input to such a tensor, or for several inputs a
            tuple of these; a dict with "insertion" and "deletion" for one of each. None (also in a
            tuple): the ``preset``; for tables, 0.
        additional_forward_args: Additional arguments of ``forward_func``. Tensors with one entry
            per sample are repeated with the samples.
        target: The output to score, in any of Captum's forms. None: the only output, or the class
            predicted for the unchanged input.
        n_steps: The number of steps. At point j of the ``n_steps + 1`` points,
            ``floor(j * features / n_steps)`` features are replaced; at most one step per feature.
        max_examples_per_batch: The maximum number of examples in one call of ``forward_func``. It
            does not change the result. On a CPU, 4 to 8 are fastest.
        score: ``"softmax"``: the target's probability; probabilities that ``forward_func`` returns
            are not changed. ``"logit"``: the target's output. With one output per sample, both are
            that output. A callable ``(outputs, target) -> (N,)`` gets the output of
            ``forward_func`` and the targets of these examples.
        channel_dim: The channel dimension of ``inputs``: 1 as in Captum, 2 for video
            ``(N, T, C, H, W)``, -1 for tokens ``(N, T, E)`` and channels-last images, None if all
            dimensions are spatial. For several inputs, a tuple with one entry each. Attributions,
            baselines and the arguments of callables have the layout of their input. A column of
            ``(N, F)`` is a feature; with None, it is also a position, so a blur mixes it with its
            neighbors.
        channel_reduce: How channels are reduced: ``"sum"``, the sum of magnitudes ``"abs"``, or
            ``"max"``.
        interpolate_mode: How coarse maps are upsampled: ``"bilinear"`` (linear in any number of
            dimensions), ``"nearest"``, ``"nearest-exact"``, ``"bicubic"``.
        ties: ``"stable"``: features of equal importance are replaced in raster order. ``"group"``:
            they are replaced together, so their order does not matter; each count is moved to the
            nearest end of a group.
        preset: The default baselines. ``"paper"``: ``blur(51, 10)``. ``"rise"``: ``blur(11, 5)``
            for insertion, zeros for deletion.
        nan_policy: How to treat NaN and inf in a sample: ``"raise"``, or ``"omit"``: the results of
            this sample are NaN.
        return_curves: Whether to also return the curves and their fractions.
        patch_size: The side of patches in pixels, such as 16 for a vision transformer. Patches are
            ranked by their mean importance and replaced as a whole. None: each feature is replaced
            separately.
        show_progress: Whether to show a progress bar.

    Returns:
        The areas, the scores at both ends, the share of ties and the protocol; for a dict of
        attributions, a dict of results.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, a batch size, a number or a name is invalid; there is NaN or inf; the
            inputs are not in the model's dtype; integer inputs cannot hold the values of a
            baseline; or ``score`` does not return one number per example. The message names the
            argument and the sample.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(4, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
        >>> inputs = torch.ones(1, 4)
        >>> result = insertion_deletion(model, inputs, model.weight * inputs, return_curves=True)
        >>> result.insertion_curve
        tensor([[ 0.,  4.,  7.,  9., 10.]])
        >>> result.insertion, result.deletion
        (tensor([6.2500]), tensor([3.7500]))
    """


@metric(partial(areas, curves=("insertion",)), InsertionResult)
@same_arguments(insertion_deletion)
def insertion(*args: Any, **kwargs: Any) -> Any:
    """The area under the insertion curve, at half the cost of ``insertion_deletion``.

    Arguments and errors are those of ``insertion_deletion``. Higher is better.

    Returns:
        The areas; for a dict of attributions, a dict of results.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> insertion(model, torch.ones(1, 2), torch.tensor([[3.0, 1.0]])).insertion
        tensor([2.5000])
    """


@metric(partial(areas, curves=("deletion",)), DeletionResult)
@same_arguments(insertion_deletion)
def deletion(*args: Any, **kwargs: Any) -> Any:
    """The area under the deletion curve, at half the cost of ``insertion_deletion``.

    Arguments and errors are those of ``insertion_deletion``. Lower is better.

    Returns:
        The areas; for a dict of attributions, a dict of results.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> deletion(model, torch.ones(1, 2), torch.tensor([[3.0, 1.0]])).deletion
        tensor([1.5000])
    """
