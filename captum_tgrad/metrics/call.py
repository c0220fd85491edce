"""What every metric does around its own work: checks, clean scores, protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._captum import NullProgress, TargetType, progress
from captum_tgrad.metrics.checks import (
    NanPolicy,
    check_count,
    check_finite,
    check_model_and_inputs,
    frozen_inputs,
    listed,
    methods_of,
)
from captum_tgrad.metrics.example_buffer import ExampleBuffer
from captum_tgrad.metrics.findings import Findings
from captum_tgrad.metrics.importance import (
    ChannelReduce,
    InterpolateMode,
    Maps,
    importance_maps,
    not_finite,
)
from captum_tgrad.metrics.scores import Score, Scorer

Result = TypeVar("Result")


@dataclass(frozen=True)
class Settings:
    """The arguments that all metrics have; see ``insertion_deletion`` for what they mean."""

    max_examples_per_batch: int
    score: Score
    channel_reduce: ChannelReduce
    interpolate_mode: InterpolateMode
    nan_policy: NanPolicy
    show_progress: bool

    def __post_init__(self) -> None:
        check_count(self.max_examples_per_batch, "max_examples_per_batch")


class Call:
    """One call of a metric.

    Args:
        forward_func: This and the following as for ``insertion_deletion``.
        inputs: See there.
        attributions: See there.
        additional_forward_args: See there.
        target: See there.
        settings: The other arguments.

    Attributes:
        inputs: The inputs as a tuple, without gradient.
        methods: The attributions of each method, by what to call them in a message.
        frozen: Which inputs are not to be changed.
        scorer: Scores examples.
        findings: What the user is warned of in the end.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        inputs: Tensor | tuple[Tensor, ...],
        attributions: Any,
        additional_forward_args: Any,
        target: TargetType,
        settings: Settings,
    ) -> None:
        self.inputs = check_model_and_inputs(forward_func, inputs, settings.nan_policy)
        self.methods = methods_of(attributions)
        self.frozen = frozen_inputs(self.methods, len(self.inputs))
        self.scorer = Scorer(
            forward_func, additional_forward_args, target, settings.score, self.samples
        )
        self.findings = Findings()
        self.findings.training(forward_func)
        self._settings = settings
        self._names = list(attributions) if isinstance(attributions, Mapping) else None

    @property
    def samples(self) -> int:
        """The number of samples of the batch."""
        return self.inputs[0].shape[0]

    def maps(self, method: str) -> tuple[Maps, Tensor]:
        """The importance of the features, and which samples have NaN or inf in it.

        Raises:
            ValueError: As ``importance_maps``, or there is NaN or inf and it is not to be omitted.
        """
        settings = self._settings
        maps = importance_maps(
            self.methods[method],
            self.inputs,
            settings.channel_reduce,
            settings.interpolate_mode,
            method,
        )
        if settings.nan_policy == "raise":
            self.check_finite([each for each in maps if each is not None], method)
        return maps, not_finite(maps)

    def check_finite(self, tensors: Sequence[Tensor], name: str) -> None:
        """Raises ValueError if a sample holds NaN or inf that is not to be omitted."""
        if self._settings.nan_policy == "raise":
            for tensor in tensors:
                check_finite(tensor, name)

    def check_scores(self, finite: Tensor, method: str) -> None:
        """Raises ValueError unless the scores of all samples are finite or may be omitted."""
        if self._settings.nan_policy == "raise" and not bool(finite.all()):
            raise ValueError(
                f"forward_func or score gave NaN or inf for sample {listed(~finite)} of {method}."
                " Pass nan_policy='omit' to get NaN for these samples."
            )

    @contextmanager
    def clean_scores(self, metric: str, further: int) -> Iterator[tuple[Tensor, ExampleBuffer]]:
        """Scores the inputs, and lends the buffer that will score ``further`` examples at most."""
        total = self.samples + further
        show = self._settings.show_progress
        with progress(desc=metric, total=total) if show else NullProgress() as bar:
            capacity = min(self._settings.max_examples_per_batch, total)
            buffer = ExampleBuffer(self.inputs, capacity, self.scorer.score_clean, bar)
            buffer.add(self.inputs, range(self.samples))
            clean = buffer.finish()
            buffer.evaluate = self.scorer
            yield clean, buffer
            bar.update(total - buffer.scored)

    def protocol(self, metric: str, baseline: Any, **own: Any) -> dict[str, Any]:
        """How the numbers were made, of plain strings, numbers, lists and dicts."""
        return {
            "metric": metric,
            "baseline": baseline,
            **own,
            "score": self.scorer.score_name,
            "target": self.scorer.target_name,
            "channel_reduce": self._settings.channel_reduce,
            "interpolate_mode": self._settings.interpolate_mode,
            "nan_policy": self._settings.nan_policy,
            "captum_tgrad": __version__,
            "torch": str(torch.__version__),
        }

    def as_given(self, found: Sequence[Result]) -> Result | dict[str, Result]:
        """One result for each method: alone, or by name if the attributions were."""
        if self._names is None:
            return found[0]
        return dict(zip(self._names, found, strict=True))
