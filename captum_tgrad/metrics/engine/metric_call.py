"""What every metric does around its own work: checks, clean scores, protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._support.captum_private import NullProgress, progress
from captum_tgrad.attribution.checks import channel_dims
from captum_tgrad.metrics.engine.arguments import Arguments
from captum_tgrad.metrics.engine.checks import (
    check_finite,
    check_model_and_inputs,
    frozen_inputs,
    listed,
    methods_of,
)
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.findings import Findings
from captum_tgrad.metrics.engine.importance import Maps, importance_maps, not_finite
from captum_tgrad.metrics.engine.scorer import Scorer

Found = TypeVar("Found")
Result = TypeVar("Result")


class Call:
    """One call of a metric.

    Args:
        arguments: Those of the metric.

    Attributes:
        inputs: The inputs as a tuple, without gradient.
        channel_dims: Which dimension of each input is no place.
        methods: The attributions of each method, by what to call them in a message.
        frozen: Which inputs are not to be changed.
        scorer: Scores examples.
        findings: What the user is warned of in the end.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self.inputs = check_model_and_inputs(
            arguments.forward_func, arguments.inputs, arguments.nan_policy
        )
        self.channel_dims = channel_dims(arguments.channel_dim, self.inputs)
        self.methods = methods_of(arguments.attributions)
        self.frozen = frozen_inputs(self.methods, len(self.inputs))
        self.scorer = Scorer(
            arguments.forward_func,
            arguments.additional_forward_args,
            arguments.target,
            arguments.score,
            self.samples,
        )
        self.findings = Findings()
        self.findings.training(arguments.forward_func)

    @property
    def samples(self) -> int:
        """The number of samples of the batch."""
        return self.inputs[0].shape[0]

    def maps(self, method: str) -> tuple[Maps, Tensor]:
        """The importance of the features, and which samples have NaN or inf in it.

        Raises:
            ValueError: As ``importance_maps``, or there is NaN or inf and it is not to be omitted.
        """
        maps = importance_maps(
            self.methods[method],
            self.inputs,
            self._arguments.channel_reduce,
            self._arguments.interpolate_mode,
            method,
            self.channel_dims,
        )
        if self._arguments.nan_policy == "raise":
            self.check_finite([each for each in maps if each is not None], method)
        return maps, not_finite(maps)

    def check_finite(self, tensors: Sequence[Tensor], name: str) -> None:
        """Raises ValueError if a sample holds NaN or inf that is not to be omitted."""
        if self._arguments.nan_policy == "raise":
            for tensor in tensors:
                check_finite(tensor, name)

    def check_scores(self, finite: Tensor, method: str) -> None:
        """Raises ValueError unless the scores of all samples are finite or may be omitted."""
        if self._arguments.nan_policy == "raise" and not bool(finite.all()):
            raise ValueError(
                f"forward_func or score gave NaN or inf for sample {listed(~finite)} of {method}."
                " Pass nan_policy='omit' to get NaN for these samples."
            )

    @contextmanager
    def clean_scores(self, metric: str, further: int) -> Iterator[tuple[Tensor, ExampleBuffer]]:
        """Scores the inputs, and lends the buffer that will score ``further`` examples at most."""
        total = self.samples + further
        show = self._arguments.show_progress
        with progress(desc=metric, total=total) if show else NullProgress() as bar:
            capacity = min(self._arguments.max_examples_per_batch, total)
            buffer = ExampleBuffer(
                self.inputs, self.channel_dims, capacity, self.scorer.score_clean, bar
            )
            buffer.add(self.inputs, range(self.samples))
            clean = buffer.finish()
            buffer.evaluate = self.scorer
            yield clean, buffer
            bar.update(total - buffer.scored)

    def protocol(self, metric: str, baseline: Any, **own: Any) -> dict[str, Any]:
        """How the numbers were made, of plain strings, numbers, lists and dicts."""
        dims = self.channel_dims
        # Only where it is not 1: what was recorded before there was a choice stays equal.
        elsewhere = {"channel_dim": dims[0] if len(dims) == 1 else list(dims)}
        return {
            "metric": metric,
            "baseline": baseline,
            **own,
            "score": self.scorer.score_name,
            "target": self.scorer.target_name,
            **({} if set(dims) == {1} else elsewhere),
            "channel_reduce": self._arguments.channel_reduce,
            "interpolate_mode": self._arguments.interpolate_mode,
            "nan_policy": self._arguments.nan_policy,
            "captum_tgrad": __version__,
            "torch": str(torch.__version__),
        }

    def results(
        self, found: Sequence[Found], result: Callable[[Found], Result]
    ) -> Result | dict[str, Result]:
        """The result for each method: alone, or by name if the attributions were."""
        attributions = self._arguments.attributions
        if not isinstance(attributions, Mapping):
            return result(found[0])
        return {name: result(each) for name, each in zip(attributions, found, strict=True)}
