"""The examples of a curve: inputs of which more and more features are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import torch
from torch import Tensor

from captum_tgrad.metrics.engine.features import (
    by_feature,
    channels_back,
    channels_first,
    empty_examples,
)
from captum_tgrad.metrics.engine.ranking import Ranking

Examples = tuple[Tensor, ...]
"""One tensor for each input."""


def runs(ranking: Ranking, leave_out: Tensor, at_once: int) -> Iterator[range]:
    """Ranges of samples that replace the same number of features of every input at every point.

    Each has at most ``at_once`` samples. Samples to ``leave_out``, ``(N,)``, are in none of them.
    """
    counts = torch.cat([each.counts for each in ranking.inputs if each is not None], 1)
    keys = list(zip(leave_out.tolist(), counts.tolist(), strict=True))
    for (left_out, _), group in groupby(range(len(keys)), keys.__getitem__):
        if not left_out:
            samples = list(group)
            for first in range(0, len(samples), at_once):
                some = samples[first : first + at_once]
                yield range(some[0], some[-1] + 1)


def curve_examples(
    start: Examples,
    finish: Examples,
    channel_dims: tuple[int | None, ...],
    ranking: Ranking,
    run: range,
) -> Iterator[tuple[int, Examples]]:
    """Replaces the features of ``start`` with those of ``finish``, in the order of their ranking.

    Yields each point of the curve and the examples of the samples of ``run`` there: every time the
    same tensors, overwritten. Both ends of the curve are left out, as are points at which nothing
    more is replaced.
    """
    here = slice(run.start, run.stop)
    examples, replaced = [], []
    for before, after, ordered, dim in zip(
        start, finish, ranking.inputs, channel_dims, strict=True
    ):
        if ordered is None:
            examples.append(before[here])
            continue
        first = channels_first(before[here], dim)
        own = empty_examples(len(run), first).copy_(first)
        examples.append(channels_back(own, dim))
        last = by_feature(channels_first(after[here], dim))
        places = ordered.order[here, None].expand(-1, last.shape[1], -1)
        # In the order in which they are needed, so that a step is a slice.
        values = last.gather(2, places)
        replaced.append((by_feature(own), places, values, ordered.counts[run.start].tolist()))
    counts = ranking.counts[run.start].tolist()
    for point in range(1, len(counts)):
        if counts[point - 1] < counts[point] < counts[-1]:
            for own, places, values, of_input in replaced:
                step = slice(of_input[point - 1], of_input[point])
                _write(own, places[..., step], values[..., step])
            yield point, tuple(examples)


def _write(into: Tensor, places: Tensor, values: Tensor) -> None:
    if len(into) == 1:  # one index for all channels is faster where there is one sample
        into[0].index_copy_(1, places[0, 0], values[0])
    else:
        into.scatter_(2, places, values)
