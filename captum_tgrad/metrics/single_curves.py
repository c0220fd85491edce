"""Either of the two curves alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad.attribution.complete import ChannelDim
from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.areas import Areas, CurveArguments, areas
from captum_tgrad.metrics.engine.arguments import Attributions
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.metric import metric
from captum_tgrad.metrics.engine.ranking import Ties
from captum_tgrad.metrics.engine.scorer import Score
from captum_tgrad.metrics.results import Area


@metric
def insertion(
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
    show_progress: bool = False,
) -> Area | dict[str, Area]:
    """The area under the insertion curve alone: half the work of ``insertion_deletion``.

    Arguments and what is raised are those of ``insertion_deletion``. Higher is better.

    Returns:
        The areas; for a dict of attributions, a dict of these.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> insertion(model, torch.ones(1, 2), torch.tensor([[3.0, 1.0]])).area
        tensor([2.5000])
    """
    return areas(("insertion",), CurveArguments(**locals()), partial(_one, "insertion"))


@metric
def deletion(
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
    show_progress: bool = False,
) -> Area | dict[str, Area]:
    """The area under the deletion curve alone: half the work of ``insertion_deletion``.

    Arguments and what is raised are those of ``insertion_deletion``. Lower is better.

    Returns:
        The areas; for a dict of attributions, a dict of these.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> _ = model.weight.data.copy_(torch.tensor([[3.0, 1.0]]))
        >>> deletion(model, torch.ones(1, 2), torch.tensor([[3.0, 1.0]])).area
        tensor([1.5000])
    """
    return areas(("deletion",), CurveArguments(**locals()), partial(_one, "deletion"))


def _one(name: str, found: Areas) -> Area:
    return Area(
        area=found.area[name],
        clean_score=found.clean_score,
        baseline_score=found.baseline_score[name],
        tied_share=found.tied_share,
        protocol=found.protocol,
        fractions=found.fractions,
        curve=found.scores.get(name),
    )
