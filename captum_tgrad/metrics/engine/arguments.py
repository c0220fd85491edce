"""What a metric was called with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad.attribution.complete import ChannelDim
from captum_tgrad.metrics.engine.checks import NanPolicy, check_count
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.scorer import Score

Attributions = Tensor | tuple[Tensor | None, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Arguments:
    """The arguments that all metrics have; see ``insertion_deletion`` for what they mean.

    A metric hands over its own with ``**locals()``: so they are named in the signature that users
    read and once for all metrics here, and a name that is only in one of them fails at every call.
    """

    forward_func: Callable[..., Any]
    inputs: Tensor | tuple[Tensor, ...]
    attributions: Attributions | Mapping[str, Attributions]
    additional_forward_args: object | None
    target: TargetType
    max_examples_per_batch: int
    score: Score
    channel_dim: ChannelDim = 1
    channel_reduce: ChannelReduce
    interpolate_mode: InterpolateMode
    nan_policy: NanPolicy
    show_progress: bool

    def __post_init__(self) -> None:
        check_count(self.max_examples_per_batch, "max_examples_per_batch")
