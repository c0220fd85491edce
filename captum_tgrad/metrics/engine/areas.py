"""The areas under the insertion and deletion curves of all methods on one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_count
from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.baseline_forms import Resolved, resolve_each
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.layout import by_feature, empty_examples
from captum_tgrad.metrics.engine.metric_call import MetricCall, Scores
from captum_tgrad.metrics.engine.ranking import Ranking, Ties, rank

# Integers that torch cannot assign by index, and the dtypes that their bits are assigned as.
_INDEXED_AS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def areas(
    call: MetricCall,
    *,
    curves: tuple[str, ...],
    baselines: Baselines | Mapping[str, Baselines],
    n_steps: int,
    ties: Ties,
    preset: Preset,
    return_curves: bool,
    patch_size: int | None,
) -> Scores:
    """The areas under ``curves``, "insertion", "deletion" or both, as one dict for each method.

    The other arguments are those of ``insertion_deletion``.
    """
    check_count(n_steps, "n_steps")
    if patch_size is not None:
        patch_size = check_count(patch_size, "patch_size")
    rankings = [_ranked(call, method, n_steps, ties, patch_size) for method in call.maps]
    resolved = resolve_each(
        baselines, preset, curves, call.inputs, call.frozen, call.channel_dims, call.nan_policy
    )
    title = " and ".join(curves)
    n_points = rankings[0].counts.shape[1]
    # An upper bound: groups of tied features take fewer.
    further = len(rankings) * len(curves) * (n_points - 2)
    further += len({id(each) for each in resolved.values()})
    with call.clean_scores(title, call.samples * further) as (clean, buffer):
        scored: dict[int, Tensor] = {}  # a baseline of both curves is scored once
        for name, baseline in resolved.items():
            if id(baseline) not in scored:
                end = scored[id(baseline)] = torch.empty_like(clean)
                buffer.add(baseline[0], slice(0, call.samples), end)
                buffer.finish()
                call.findings.baseline(clean, end, name)
        ends = {name: scored[id(baseline)] for name, baseline in resolved.items()}
        scores = _curve_scores(call, buffer, resolved, ends, clean, rankings)
    own = {"n_steps": n_points - 1, "features": rankings[0].features, "ties": ties}
    if patch_size is not None:  # so that older protocols stay equal
        own["patch_size"] = patch_size
    labels = {name: label for name, (_, label) in resolved.items()}
    found = []
    for method, ranking, by_curve in zip(call.maps, rankings, scores, strict=True):
        broken = call.broken[method].to(by_curve.device)
        points = ranking.scored_points().to(by_curve.device).expand_as(by_curve)
        by_curve = by_curve.gather(2, points).masked_fill(broken[:, None], torch.nan)
        call.omitted(by_curve.transpose(0, 1), method)  # raises; curves keep their other points
        fields = _fields(by_curve, ranking, ends, return_curves)
        fields["tied_share"] = ranking.tied_share.to(clean.device).masked_fill(broken, torch.nan)
        found.append(fields)
    return call.protocol(labels, metric=title, **own), found


def _ranked(
    call: MetricCall, method: str, n_steps: int, ties: Ties, patch_size: int | None
) -> Ranking:
    """The ranking of one method."""
    in_order = "their features are replaced in raster order"
    of_constant = in_order if ties == "stable" else "their curves are straight lines"
    call.findings.constant(call.constant[method], method, of_constant)
    ranking = rank(call.maps[method], n_steps, ties, patch_size)
    if ties == "stable":
        of_others = ~call.broken[method] & ~call.constant[method]
        call.findings.ties(ranking.arbitrary_share * of_others, method)
    return ranking


def _curve_scores(
    call: MetricCall,
    buffer: ExampleBuffer,
    resolved: dict[str, Resolved],
    ends: dict[str, Tensor],
    clean: Tensor,
    rankings: list[Ranking],
) -> Tensor:
    """The scores at all points, ``(methods, curves, N, points)``, once the buffer is finished.

    Insertion runs from the baseline to the input, and deletion back. Only the first of several
    points with the same examples has a score.
    """
    shape = (len(rankings), len(resolved), *rankings[0].counts.shape)
    scores = clean.new_full(shape, torch.nan)
    for of_method, ranking in zip(scores, rankings, strict=True):
        # One sample at a time if they have examples at different points.
        alike = bool((ranking.counts == ranking.counts[:1]).all())
        for of_curve, (name, (baseline, _)) in zip(of_method, resolved.items(), strict=True):
            inserts = name == "insertion"
            way = (baseline, call.inputs) if inserts else (call.inputs, baseline)
            for here in buffer.chunks(call.samples, None if alike else 1):
                for point, examples in _curve_examples(*way, ranking, here):
                    buffer.add(examples, here, of_curve[:, point])
            of_curve[:, 0] = ends[name] if inserts else clean
            of_curve[:, -1] = clean if inserts else ends[name]
    return scores


def _fields(
    scores: Tensor, ranking: Ranking, ends: dict[str, Tensor], return_curves: bool
) -> dict[str, Any]:
    """The fields of a result for its curves, from their scores, ``(curves, N, points)``."""
    fractions = ranking.fractions(scores.dtype).to(scores.device)
    under = torch.trapezoid(scores, fractions)
    under = under.masked_fill(~torch.isfinite(under), torch.nan)
    fields: dict[str, Any] = {"fractions": fractions} if return_curves else {}
    for number, (curve, end) in enumerate(ends.items()):
        fields[curve] = under[number]
        fields[f"{curve}_baseline_score"] = end
        if return_curves:
            fields[f"{curve}_curve"] = scores[number]
    if len(ends) == 2:
        fields["difference"] = fields["insertion"] - fields["deletion"]
    return fields


def _curve_examples(
    start: tuple[Tensor, ...], finish: tuple[Tensor, ...], ranking: Ranking, here: slice
) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
    """Replaces the features of ``start`` with those of ``finish``, in the order of their ranking.

    Yields each point of the curve and the examples of the samples ``here``: every time the same
    tensors, overwritten. Both ends of the curve are left out, as are points at which nothing
    more is replaced.
    """
    examples, replaced = [], []
    counts = ranking.counts[here.start].tolist()
    for before, after, points in zip(start, finish, ranking.points, strict=True):
        first = before[here]
        if points is not None:
            first = empty_examples(len(first), first).copy_(first)
            kind = _INDEXED_AS.get(first.dtype, first.dtype)
            own, last = by_feature(first.view(kind)), by_feature(after[here].view(kind))
            # In the order in which they are replaced, so that a step is a slice.
            sorted_points, order = points[here].flatten().sort()
            every_point = torch.arange(len(counts), dtype=points.dtype, device=points.device)
            ends = torch.searchsorted(sorted_points, every_point, right=True).tolist()
            samples, features = order // own.shape[2], order % own.shape[2]
            # Faster than an index of both.
            values = last.movedim(1, 2).contiguous().flatten(0, 1).index_select(0, order)
            replaced.append((own, samples, features, values, ends))
        examples.append(first)
    for point in range(1, len(counts) - 1):
        if counts[point - 1] < counts[point] < counts[-1]:
            for own, samples, features, values, ends in replaced:
                step = slice(ends[point - 1], ends[point])
                own[samples[step], :, features[step]] = values[step]
            yield point, tuple(examples)
