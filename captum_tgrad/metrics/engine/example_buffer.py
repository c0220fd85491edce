"""Batches perturbed examples, at most as many as the user allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.metrics.engine.features import empty_examples

Evaluate = Callable[[tuple[Tensor, ...], list[int]], Tensor]


class ExampleBuffer:
    """Collects examples, and scores them whenever it is full.

    Memory is allocated once, in the memory format of the inputs. Models may overwrite their inputs,
    because examples are copied before they are scored.

    Attributes:
        capacity: The number of examples in one call of the model.
        evaluate: From examples and their sample indices to scores; can be replaced while the buffer
            is empty.
        scored: The number of scored examples.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        channel_dims: tuple[int | None, ...],
        capacity: int,
        evaluate: Evaluate,
        progress: Any,
    ) -> None:
        self.capacity = capacity
        self.evaluate = evaluate
        self.scored = 0
        self._progress = progress
        self._examples = tuple(
            empty_examples(capacity, like, dim)
            for like, dim in zip(inputs, channel_dims, strict=True)
        )
        self._samples: list[int] = []
        self._scores: list[Tensor] = []

    def chunks(self, samples: int) -> Iterator[range]:
        """Ranges of the numbers of ``samples`` samples, each no longer than the capacity."""
        for first in range(0, samples, self.capacity):
            yield range(samples)[first : first + self.capacity]

    def add(self, examples: tuple[Tensor, ...], samples: Iterable[int]) -> None:
        """Copies examples of ``samples`` into the buffer, ``(len(samples), ...)`` each."""
        samples = list(samples)
        taken = 0
        while taken < len(samples):
            filled = len(self._samples)
            taking = min(len(samples) - taken, self.capacity - filled)
            for room, example in zip(self._examples, examples, strict=True):
                room[filled : filled + taking].copy_(example[taken : taken + taking])
            self._samples += samples[taken : taken + taking]
            taken += taking
            if len(self._samples) == self.capacity:
                self._flush()

    def finish(self) -> Tensor:
        """Returns the scores of all added examples, in that order, and clears the buffer."""
        self._flush()
        scores, self._scores = self._scores, []
        if not scores:
            return torch.empty(0, device="cpu")
        with without_autocast(scores[0]):  # torch.cat of some dtypes fails under autocast
            return torch.cat(scores)

    def _flush(self) -> None:
        if not self._samples:
            return
        examples = tuple(room[: len(self._samples)] for room in self._examples)
        # A copy: a score may be a view of the examples, which are overwritten.
        self._scores.append(self.evaluate(examples, self._samples).clone())
        self._progress.update(len(self._samples))
        self.scored += len(self._samples)
        self._samples = []
