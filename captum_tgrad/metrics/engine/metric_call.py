"""One call of a metric: its checked arguments, its maps and its clean scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from captum_tgrad._support.arguments import check_count
from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.input_checks import ChannelDim, channel_dims
from captum_tgrad.metrics.engine import checks
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.importance import (
    ChannelReduce,
    InterpolateMode,
    Maps,
    importance_maps,
    is_constant,
    pooled,
)
from captum_tgrad.metrics.engine.layout import channels_back, channels_first
from captum_tgrad.metrics.engine.scorer import Score, Scorer

Attributions = Tensor | tuple[Tensor | None, ...]

Scores = tuple[dict[str, Any], list[dict[str, Any]]]
"""The entries of a protocol, and for each method its scores by name, without the clean score."""


class MetricCall:
    """The checked arguments that all metrics have, and their common computations.

    Attributes:
        name: The name of the metric, for the progress bar.
        inputs: The inputs as a tuple, channels first and without gradient.
        channel_dims: The channel dimension of each input; None if all its dimensions are spatial.
        maps: The importance of the features for each method, by its name in messages.
        frozen: Which inputs are kept unchanged.
        broken: For each method, which samples have NaN or inf in their map, ``(N,)``.
        constant: For each method, which of the others have a constant map, ``(N,)``.
        scorer: Scores examples.
        clean: The scores of the inputs, ``(N,)``, once they are known.
        findings: What to warn of.
    """

    def __init__(
        self,
        name: str,
        forward_func: Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        attributions: Attributions | Mapping[str, Attributions],
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
    ) -> None:
        self.name, self.forward_func = name, forward_func
        self.nan_policy, self._show_progress = nan_policy, show_progress
        self._channel_reduce, self._interpolate_mode = channel_reduce, interpolate_mode
        self.clean: Tensor | None = None
        self._capacity = check_count(max_examples_per_batch, "max_examples_per_batch")
        given = checks.check_model_and_inputs(forward_func, inputs, nan_policy)
        self.channel_dims = channel_dims(channel_dim, given, embedded=False)
        self.inputs = tuple(map(channels_first, given, self.channel_dims))
        self.maps: dict[str, Maps] = {}
        self.broken: dict[str, Tensor] = {}
        self.constant: dict[str, Tensor] = {}
        for method, each in checks.methods_of(attributions).items():
            maps = self.maps[method] = importance_maps(
                each, self.inputs, channel_reduce, interpolate_mode, method, self.channel_dims
            )
            broken = self.broken[method] = checks.check_finite(pooled(maps), method, nan_policy)
            self.constant[method] = is_constant(maps) & ~broken
        self.frozen = checks.frozen_inputs(self.maps.values())
        self.scorer = Scorer(forward_func, additional_forward_args, target, score, self.samples)
        self.findings = Findings()
        self.findings.training(forward_func)

    def given_inputs(self) -> tuple[Tensor, ...]:
        """The inputs in the layout that the user gave."""
        return tuple(map(channels_back, self.inputs, self.channel_dims))

    @property
    def samples(self) -> int:
        """The number of samples."""
        return self.inputs[0].shape[0]

    def omitted(self, scores: Tensor, method: str) -> Tensor:
        """Which samples have NaN or inf in their map or their scores, ``(N,)``.

        ``scores`` are ``(N, ...)``. Raises ValueError for samples that may not be omitted.
        """
        omitted = ~scores.isfinite().flatten(1).all(1) | self.broken[method].to(scores.device)
        returned_nan = "forward_func or score returned NaN or inf for sample"
        checks.check_omitted(omitted, self.nan_policy, returned_nan, f" of {method}")
        return omitted

    @contextmanager
    def clean_scores(self, title: str, further: int) -> Iterator[tuple[Tensor, ExampleBuffer]]:
        """Scores the inputs once, and lends the buffer for at most ``further`` examples."""
        total = further + (self.samples if self.clean is None else 0)
        with tqdm(desc=title, total=total, disable=not self._show_progress) as bar:
            if self.clean is None:
                self.clean = self.scorer.clean(self.given_inputs(), self._capacity, bar)
            capacity = min(self._capacity, further)
            buffer = ExampleBuffer(self.inputs, self.channel_dims, capacity, self.scorer, bar)
            yield self.clean, buffer
            buffer.finish()
            bar.update(total - bar.n)

    def protocol(self, baseline: Any, **own: Any) -> dict[str, Any]:
        """The entries of the protocol, other than the name of the metric and versions."""
        dims = self.channel_dims
        # Only if it is not 1, so that older protocols stay equal.
        elsewhere = {"channel_dim": dims[0] if len(dims) == 1 else list(dims)}
        return {
            "baseline": baseline,
            **own,
            "score": self.scorer.score_name,
            "target": self.scorer.target_name,
            **({} if set(dims) == {1} else elsewhere),
            "channel_reduce": self._channel_reduce,
            "interpolate_mode": self._interpolate_mode,
            "nan_policy": self.nan_policy,
        }
