"""Times a method on batches, splits them when memory is short, and records failures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from captum_tgrad._support.accelerator import synchronize
from captum_tgrad._support.out_of_memory import Halving
from captum_tgrad._support.random_state import own_randomness
from captum_tgrad.evaluation.methods.method import Black, Explainer, Method
from captum_tgrad.metrics.engine.importance import importance_maps

# A method that fails on this many first images is abandoned.
_GIVE_UP_AFTER = 8

# From this many seconds per image on, a batch is not run just to warm up.
_LONG = 1.0


@dataclass(frozen=True)
class ExplainedImage:
    """The result of a method for one image."""

    importance: Tensor  # of each place, (1, 1, H, W)
    residual: float | None  # T-Grad's convergence delta; None for other methods
    seconds: float  # the time of its batch, divided by the number of images


Outcome = ExplainedImage | str  # or the reason why the method failed


class TimedMethod:
    """A method built for a model; its failures do not affect others."""

    def __init__(
        self,
        method: Method,
        model: nn.Module,
        black: Black,
        batch_size: int,
        examples_at_once: int,
    ) -> None:
        self.method = method
        self.gave_up: str | None = None  # why it is no longer tried
        self._model, self._black = model, black
        self._asked_for = batch_size, examples_at_once
        self._parts, self._examples = Halving(batch_size), Halving(examples_at_once)
        self._explainer: Explainer | None = None
        self._successes = self._failures = 0
        self._warm = False

    @property
    def shortage(self) -> str | None:
        """A message if memory was short and batches were divided; otherwise None."""
        batch_size, examples = self._asked_for
        if not self._successes or (self._parts.size, self._examples.size) == self._asked_for:
            return None
        return (
            f"{self.method.name} ran out of memory with {batch_size} images and {examples}"
            f" examples of one image at a time, and was timed with {self._parts.size} and"
            f" {self._examples.size}."
        )

    def __call__(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> list[Outcome]:
        """The result for each image ``(N, C, H, W)``."""
        found = self._explain(inputs, target, seeds)
        failures = sum(isinstance(each, str) for each in found)
        self._failures += failures
        self._successes += len(found) - failures
        if not self._successes and self._failures >= _GIVE_UP_AFTER:
            last = next(each for each in reversed(found) if isinstance(each, str))
            self.gave_up = f"given up after {self._failures} failures in this process: {last}"
        return found

    def _explain(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> list[Outcome]:
        found: list[Outcome] = []
        try:
            self._warm_up(inputs, target, seeds)
            for part in self._in_parts(inputs, target, seeds):
                found += part
        # Other libraries' code may raise anything on a model that they do not know.
        except Exception as error:
            # The failed method may be in any state: build it and warm it up again.
            self._explainer, self._warm = None, False
            if len(inputs) == 1:
                return [reason_of(error)]
            # One image may be the cause: try each alone.
            for index in range(len(found), len(inputs)):
                one = slice(index, index + 1)
                found += self._explain(inputs[one], target[one], seeds[one])
        return found

    def _warm_up(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> None:
        """Runs the first batch once without counting it, so that one-time costs are not timed.

        A GPU chooses its kernels by the batch size, and a CPU allocates memory, which does not
        matter if one image takes long.
        """
        if self._warm:
            return
        seconds = 0.0
        if inputs.device.type == "cpu":
            (first,) = self._timed(inputs[:1], target[:1], seeds[:1])
            seconds = first.seconds if isinstance(first, ExplainedImage) else 0.0
        if seconds < _LONG:
            for _ in self._in_parts(inputs, target, seeds):
                pass
        self._warm = True

    def _in_parts(
        self, inputs: Tensor, target: Tensor, seeds: Sequence[int]
    ) -> Iterator[list[Outcome]]:
        """The results for parts of a batch, as many images as fit into memory."""
        return self._parts(
            lambda part: self._timed(inputs[part], target[part], seeds[part]), len(inputs)
        )

    def _timed(self, inputs: Tensor, target: Tensor, seeds: Sequence[int]) -> list[Outcome]:
        # A user's method may ignore the seeds and draw from the global random state.
        with own_randomness(seeds[0], inputs.device):
            if self._explainer is None:
                self._explainer = self.method.build(self._model, self._black)
            explain = partial(self._explainer.with_residual, inputs, target, seeds)
            synchronize(inputs.device)
            start = time.perf_counter()
            # If memory is short, first fewer images at a time, then fewer examples of one image.
            attributions, residual = (
                explain(self._examples.size) if len(inputs) > 1 else self._examples.at_once(explain)
            )
            synchronize(inputs.device)
            seconds = (time.perf_counter() - start) / len(inputs)
        (importance,) = importance_maps(attributions, (inputs,), "sum", "bilinear")
        assert importance is not None  # ``importance_maps`` raises
        residuals = [None] * len(inputs) if residual is None else residual.tolist()
        return [
            ExplainedImage(each[None, None], rest, seconds)
            if bool(torch.isfinite(each).all())
            else "its map holds NaN or inf"
            for each, rest in zip(importance, residuals, strict=True)
        ]


def reason_of(error: Exception) -> str:
    """An error in one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
