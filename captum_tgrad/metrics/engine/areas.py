"""The areas under the insertion and deletion curves of all methods on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.baseline_forms import Resolved, resolve_each
from captum_tgrad.metrics.engine.checks import check_count
from captum_tgrad.metrics.engine.curve_walk import CurveWalk, Way
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.importance import is_constant
from captum_tgrad.metrics.engine.metric_call import MetricCall
from captum_tgrad.metrics.engine.ranking import Ranking, Ties, rank


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
) -> list[dict[str, Any]]:
    """The areas under ``curves``, "insertion", "deletion" or both, as fields of a result.

    The other arguments are those of ``insertion_deletion``. There are fields for each method.
    """
    check_count(n_steps, "n_steps")
    if patch_size is not None:
        check_count(patch_size, "patch_size")
    rankings = {method: _ranked(call, method, n_steps, ties, patch_size) for method in call.methods}
    resolved = resolve_each(baselines, preset, curves, call.inputs, call.frozen, call.channel_dims)
    for tensors, _ in resolved.values():
        call.check_finite(tensors, "baselines")
    points = next(iter(rankings.values()))[0].counts.shape[1]
    # At most: a group of tied features takes fewer.
    further = len(rankings) * len(curves) * (points - 2)
    further += len({id(each) for each in resolved.values()})
    with call.clean_scores(" and ".join(curves), call.samples * further) as (clean, buffer):
        ends = _baseline_scores(call, buffer, resolved, clean)
        walks = [
            CurveWalk(_ways(call, resolved, ends, clean), ranking, broken.to(clean.device))
            for ranking, broken in rankings.values()
        ]
        for walk in walks:
            walk.add_to(buffer)
        scores = torch.split(buffer.finish(), [len(walk) for walk in walks])
    # Only if given: protocols written before there was a choice stay equal.
    own = {"ties": ties, **({} if patch_size is None else {"patch_size": patch_size})}
    labels = {name: label for name, (_, label) in resolved.items()}
    found = []
    for (method, (ranking, broken)), walk, part in zip(
        rankings.items(), walks, scores, strict=True
    ):
        by_curve = walk.curves(part)
        broken = broken.to(by_curve.device)
        call.check_scores(torch.isfinite(by_curve).all(2).all(0) | broken, method)
        tied_share = ranking.tied_share.to(by_curve.device).masked_fill(broken, torch.nan)
        protocol = call.protocol(
            labels,
            metric=" and ".join(curves),
            n_steps=points - 1,
            features=ranking.features,
            **own,
        )
        fields = _fields(by_curve, ranking, ends, return_curves)
        fields |= {"clean_score": clean, "tied_share": tied_share, "protocol": protocol}
        found.append(fields)
    return found


def _fields(
    scores: Tensor, ranking: Ranking, ends: dict[str, Tensor], return_curves: bool
) -> dict[str, Any]:
    """The fields of a result that its curves have, from their scores, ``(curves, N, points)``."""
    fractions = ranking.fractions(scores.dtype).to(scores.device)
    under = torch.trapezoid(scores, fractions)
    under = under.masked_fill(~torch.isfinite(under), torch.nan)
    fields: dict[str, Any] = {"fractions": fractions} if return_curves else {}
    for number, (curve, end) in enumerate(ends.items()):
        fields[curve] = under[number]
        fields[f"{curve}_baseline_score"] = end
        if return_curves:
            fields[f"{curve}_curve"] = scores[number]
    return fields


def _ranked(
    call: MetricCall, method: str, n_steps: int, ties: Ties, patch_size: int | None
) -> tuple[Ranking, Tensor]:
    """The ranking of one method, and the samples that have none."""
    maps, broken = call.maps(method)
    ranking = rank(maps, n_steps, ties, patch_size)
    constant = is_constant(maps) & ~broken
    if ties == "stable":
        call.findings.constant(constant, method, "their features are replaced in raster order")
        call.findings.ties(ranking.arbitrary_share.masked_fill(broken, 0), constant, method)
    else:
        call.findings.constant(constant, method, "their curves are straight lines")
    return ranking, broken


def _baseline_scores(
    call: MetricCall, buffer: ExampleBuffer, resolved: dict[str, Resolved], clean: Tensor
) -> dict[str, Tensor]:
    """The score of the baseline of each curve; a shared baseline is scored once."""
    scores: dict[int, Tensor] = {}
    for name, baseline in resolved.items():
        if id(baseline) not in scores:
            buffer.add(baseline[0], range(call.samples))
            scores[id(baseline)] = buffer.finish()
            call.findings.baseline(clean, scores[id(baseline)], name)
    return {name: scores[id(baseline)] for name, baseline in resolved.items()}


def _ways(
    call: MetricCall, resolved: dict[str, Resolved], ends: dict[str, Tensor], clean: Tensor
) -> list[Way]:
    """The examples between which each curve runs."""
    ways = []
    for name, end in ends.items():
        inserting = Way(resolved[name][0], call.inputs, call.channel_dims, end, clean)
        ways.append(inserting if name == "insertion" else inserting.back())
    return ways
