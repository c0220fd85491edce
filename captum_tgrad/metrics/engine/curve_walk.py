"""The scores at each step from one batch of examples to another, feature by feature."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.features import (
    by_feature,
    channels_back,
    channels_first,
    empty_examples,
)
from captum_tgrad.metrics.engine.ranking import Ranking


@dataclass(frozen=True)
class Way:
    """The examples between which features are replaced, for each input, and their scores, ``(N,)``.

    The features of ``start`` are replaced one by one until it is ``finish``.
    """

    start: tuple[Tensor, ...]
    finish: tuple[Tensor, ...]
    channel_dims: tuple[int | None, ...]
    start_score: Tensor
    finish_score: Tensor

    def back(self) -> Way:
        """The same examples in the opposite direction."""
        return Way(self.finish, self.start, self.channel_dims, self.finish_score, self.start_score)


class CurveWalk:
    """The curves of one method: adds their examples to a buffer, and later collects their scores.

    Neither the ends nor points at which nothing more is replaced are scored again. The scores of
    samples to ``leave_out``, ``(N,)``, are NaN.
    """

    def __init__(self, ways: Sequence[Way], ranking: Ranking, leave_out: Tensor) -> None:
        self._ways, self._ranking, self._leave_out = ways, ranking, leave_out
        self._counts = ranking.counts.tolist()
        self._runs: list[range] = []
        self._destinations: list[int] = []

    def __len__(self) -> int:
        """The number of examples that were added."""
        return len(self._destinations)

    def add_to(self, buffer: ExampleBuffer) -> None:
        """Adds the examples of all points."""
        samples, points = self._ranking.counts.shape
        # How much of every input is replaced at every point.
        counts = torch.cat([each.counts for each in self._ranking.inputs if each is not None], 1)
        self._runs = list(_runs(counts.tolist(), self._leave_out.tolist(), buffer.capacity))
        for number, way in enumerate(self._ways):
            for run in self._runs:
                first_points = _first_points(self._counts[run.start])
                for point, examples in _walk(way, self._ranking, run, first_points):
                    buffer.add(examples, run)
                    first = (number * samples + run.start) * points + point
                    self._destinations += range(first, first + len(run) * points, points)

    def curves(self, scores: Tensor) -> Tensor:
        """The scores at every point, ``(ways, N, points)``, from those of the added examples."""
        shape = (len(self._ways), *self._ranking.counts.shape)
        result = self._ways[0].start_score.new_full(shape, torch.nan)
        where = torch.tensor(self._destinations, dtype=torch.long, device=result.device)
        result.view(-1)[where] = scores.to(result)
        for number, way in enumerate(self._ways):
            result[number, :, 0], result[number, :, -1] = way.start_score, way.finish_score
        for run in self._runs:
            here = slice(run.start, run.stop)
            result[:, here] = result[:, here, _sources(self._counts[run[0]])]
        result[:, self._leave_out] = torch.nan
        return result


def _runs(counts: list[list[int]], leave_out: list[bool], longest: int) -> Iterator[range]:
    """Neighboring samples that replace equally many features at every point."""
    first = 0
    while first < len(counts):
        last = first + 1
        if leave_out[first]:
            first = last
            continue
        while (
            last < min(len(counts), first + longest)
            and not leave_out[last]
            and counts[last] == counts[first]
        ):
            last += 1
        yield range(first, last)
        first = last


def _first_points(counts: list[int]) -> dict[int, int]:
    """From each count between none and all to the first point that has it."""
    firsts: dict[int, int] = {}
    for point, count in enumerate(counts):
        if 0 < count < counts[-1]:
            firsts.setdefault(count, point)
    return firsts


def _sources(counts: list[int]) -> list[int]:
    """For each point, the one that was scored in its place."""
    firsts = {0: 0, **_first_points(counts), counts[-1]: len(counts) - 1}
    return [firsts[count] for count in counts]


def _walk(
    way: Way, ranking: Ranking, run: range, first_points: dict[int, int]
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """The points to score, and the examples there: the same tensors every time, rewritten."""
    here = slice(run.start, run.stop)
    running, replaced = [], []
    for number, (ordered, dim) in enumerate(zip(ranking.inputs, way.channel_dims, strict=True)):
        start = way.start[number][here]
        if ordered is None:
            running.append(start)
            continue
        start = channels_first(start, dim)
        own = empty_examples(len(run), start).copy_(start)
        running.append(channels_back(own, dim))
        finish = by_feature(channels_first(way.finish[number][here], dim))
        places = ordered.order[here, None].expand(-1, finish.shape[1], -1)
        # In the order in which they are needed, so that a step is a slice.
        values = finish.gather(2, places)
        replaced.append((by_feature(own), places, values, ordered.counts[run.start].tolist()))
    before = [0] * len(replaced)
    for point in first_points.values():
        for number, (own, places, values, counts) in enumerate(replaced):
            after = counts[point]
            if after > before[number]:
                step = slice(before[number], after)
                _write(own, places[..., step], values[..., step])
                before[number] = after
        yield point, tuple(running)


def _write(into: Tensor, places: Tensor, values: Tensor) -> None:
    if len(into) == 1:  # one index for all channels is faster where there is one sample
        into[0].index_copy_(1, places[0, 0], values[0])
    else:
        into.scatter_(2, places, values)
