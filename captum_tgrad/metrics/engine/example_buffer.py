"""Batches perturbed examples, at most as many as the user allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.metrics.engine.layout import channels_back, empty_examples

Evaluate = Callable[[tuple[Tensor, ...], list[int]], Tensor]


class ExampleBuffer:
    """Collects examples, scores them whenever it is full, and writes each score to its place.

    Examples are added channels first, and scored in the layout of the user's inputs. Memory is
    allocated once, in the memory format of the inputs. Models may overwrite their inputs, because
    examples are copied before they are scored.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        channel_dims: tuple[int | None, ...],
        capacity: int,
        evaluate: Evaluate,
        progress: Any,
    ) -> None:
        """``evaluate`` scores up to ``capacity`` examples, given with their sample indices."""
        self._capacity = capacity
        self._evaluate, self._progress = evaluate, progress
        self._channel_dims = channel_dims
        self._examples = tuple(
            empty_examples(capacity, like, dim)
            for like, dim in zip(inputs, channel_dims, strict=True)
        )
        self._samples: list[int] = []
        self._places: list[Tensor] = []

    def chunks(self, samples: int, size: int | None = None) -> Iterator[slice]:
        """Slices of ``samples`` samples, as long as the capacity or ``size``."""
        size = size or self._capacity
        for first in range(0, samples, size):
            yield slice(first, min(first + size, samples))

    def add(self, examples: tuple[Tensor, ...], here: slice, scores: Tensor) -> None:
        """Copies examples of the samples ``here`` into the buffer, one each.

        Their scores are in ``scores[here]``, of ``(N,)``, after the next ``finish``.
        """
        samples, scores = range(here.start, here.stop), scores[here]
        taken = 0
        while taken < len(samples):
            filled = len(self._samples)
            taking = min(len(samples) - taken, self._capacity - filled)
            for room, example in zip(self._examples, examples, strict=True):
                room[filled : filled + taking].copy_(example[taken : taken + taking])
            self._samples += samples[taken : taken + taking]
            self._places.append(scores[taken : taken + taking])
            taken += taking
            if len(self._samples) == self._capacity:
                self.finish()

    def finish(self) -> None:
        """Scores the examples that are left."""
        if not self._samples:
            return
        examples = tuple(
            channels_back(room[: len(self._samples)], dim)
            for room, dim in zip(self._examples, self._channel_dims, strict=True)
        )
        found = self._evaluate(examples, self._samples)
        sizes = [len(place) for place in self._places]
        for place, scores in zip(self._places, torch.split(found, sizes), strict=True):
            place.copy_(scores)
        self._progress.update(len(self._samples))
        self._samples, self._places = [], []
