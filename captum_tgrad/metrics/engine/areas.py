"""The areas under the insertion and deletion curves of all methods on one batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.untouched import untouched
from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.baseline_forms import Resolved, choose, resolve_each
from captum_tgrad.metrics.engine.checks import check_count
from captum_tgrad.metrics.engine.curve_walk import CurveWalk, Way, area
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.importance import is_constant
from captum_tgrad.metrics.engine.metric_call import MetricCall
from captum_tgrad.metrics.engine.ranking import Ranking, Ties, rank


@dataclass(frozen=True)
class Areas:
    """The result for one method: the area under each curve and its scores.

    The scores and their fractions are only kept if curves are returned.
    """

    area: dict[str, Tensor]
    scores: dict[str, Tensor]
    fractions: Tensor | None
    clean_score: Tensor
    baseline_score: dict[str, Tensor]
    tied_share: Tensor
    protocol: dict[str, Any]


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
) -> list[Areas]:
    """The areas under ``curves``, "insertion", "deletion" or both, for each method.

    The other arguments are those of ``insertion_deletion``.
    """
    check_count(n_steps, "n_steps")
    if patch_size is not None:
        check_count(patch_size, "patch_size")
    chosen = choose(baselines, preset, curves)
    with untouched(call.forward_func, call.inputs[0].device):
        rankings = {
            method: _ranked(call, method, n_steps, ties, patch_size) for method in call.methods
        }
        resolved = resolve_each(chosen, preset, call.inputs, call.frozen, call.channel_dims)
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
    return [
        _areas(
            call,
            method,
            ranking,
            broken,
            walk.curves(part),
            ends,
            clean,
            labels,
            own,
            return_curves,
        )
        for (method, (ranking, broken)), walk, part in zip(
            rankings.items(), walks, scores, strict=True
        )
    ]


def _areas(
    call: MetricCall,
    method: str,
    ranking: Ranking,
    broken: Tensor,
    scores: Tensor,
    ends: dict[str, Tensor],
    clean: Tensor,
    labels: dict[str, Any],
    own: Mapping[str, Any],
    return_curves: bool,
) -> Areas:
    broken = broken.to(scores.device)
    call.check_scores(torch.isfinite(scores).all(2).all(0) | broken, method)
    fractions = ranking.fractions(scores.dtype).to(scores.device)
    under = area(scores, fractions)
    under = under.masked_fill(~torch.isfinite(under), torch.nan)
    return Areas(
        area=dict(zip(ends, under, strict=True)),
        scores=dict(zip(ends, scores, strict=True)) if return_curves else {},
        fractions=fractions if return_curves else None,
        clean_score=clean,
        baseline_score=ends,
        tied_share=ranking.tied_share.to(scores.device).masked_fill(broken, torch.nan),
        protocol=call.protocol(
            " and ".join(ends),
            labels,
            n_steps=ranking.counts.shape[1] - 1,
            features=ranking.features,
            **own,
        ),
    )


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
    found: dict[str, Tensor] = {}
    for name, baseline in resolved.items():
        same = [other for other in found if resolved[other] is baseline]
        if same:
            found[name] = found[same[0]]
            continue
        buffer.add(baseline[0], range(call.samples))
        found[name] = buffer.finish()
        call.findings.baseline(clean, found[name], name)
    return found


def _ways(
    call: MetricCall, resolved: dict[str, Resolved], ends: dict[str, Tensor], clean: Tensor
) -> list[Way]:
    """The examples between which each curve runs."""
    inserting = {
        name: Way(resolved[name][0], call.inputs, call.channel_dims, ends[name], clean)
        for name in ends
    }
    return [way if name == "insertion" else way.back() for name, way in inserting.items()]
