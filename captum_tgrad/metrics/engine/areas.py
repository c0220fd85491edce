"""Curves and areas of any number of methods on one batch, which share what they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from captum_tgrad._support.untouched import untouched
from captum_tgrad.metrics.baselines import Baselines, Preset
from captum_tgrad.metrics.engine.arguments import Arguments
from captum_tgrad.metrics.engine.baseline_forms import Resolved, choose, resolve_each
from captum_tgrad.metrics.engine.checks import check_count
from captum_tgrad.metrics.engine.curve_walk import Way, area, curves
from captum_tgrad.metrics.engine.example_buffer import ExampleBuffer
from captum_tgrad.metrics.engine.findings import is_constant
from captum_tgrad.metrics.engine.metric_call import Call
from captum_tgrad.metrics.engine.ranking import Ranking, Ties, rank

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveArguments(Arguments):
    """The arguments of the metrics with a curve."""

    baselines: Baselines | Mapping[str, Baselines]
    n_steps: int
    ties: Ties
    preset: Preset
    return_curves: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.n_steps, "n_steps")


@dataclass(frozen=True)
class Areas:
    """What was found for one method: for each curve the area under it and its scores.

    The scores, and the fractions they belong to, are there only if curves are to be returned.
    """

    area: dict[str, Tensor]
    scores: dict[str, Tensor]
    fractions: Tensor | None
    clean_score: Tensor
    baseline_score: dict[str, Tensor]
    tied_share: Tensor
    protocol: dict[str, Any]


def areas(
    names: tuple[str, ...], arguments: CurveArguments, result: Callable[[Areas], Result]
) -> Result | dict[str, Result]:
    """The curves called ``names``, of "insertion" and "deletion", for each method.

    Args:
        names: The curves.
        arguments: Those of the metric.
        result: Makes of what was found for a method what the metric returns for it.

    Returns:
        One result for each name where ``attributions`` is a dict.
    """
    call = Call(arguments)
    chosen = choose(arguments.baselines, arguments.preset, names)
    with untouched(arguments.forward_func, call.inputs[0].device):
        rankings = {method: _ranked(call, method, arguments) for method in call.methods}
        stand_ins = resolve_each(
            chosen, arguments.preset, call.inputs, call.frozen, call.channel_dims
        )
        for tensors, _ in stand_ins.values():
            call.check_finite(tensors, "baselines")
        points = next(iter(rankings.values()))[0].counts.shape[1]
        # At most: a group of tied features takes fewer.
        further = len(rankings) * len(names) * (points - 2)
        further += len({id(stand_in) for stand_in in stand_ins.values()})
        with call.clean_scores(" and ".join(names), call.samples * further) as (clean, buffer):
            ends = _ends(call, buffer, stand_ins, clean)
            found = [
                _areas(call, buffer, stand_ins, clean, ends, method, *ranked, arguments)
                for method, ranked in rankings.items()
            ]
    call.findings.warn()
    return call.results(found, result)


def _ranked(call: Call, method: str, arguments: CurveArguments) -> tuple[Ranking, Tensor]:
    """The ranking of one method, and the samples that have none."""
    maps, broken = call.maps(method)
    ranking = rank(maps, arguments.n_steps, arguments.ties)
    constant = is_constant(maps) & ~broken
    if arguments.ties == "stable":
        call.findings.constant(constant, method, "their features are replaced in raster order")
        call.findings.ties(ranking.arbitrary_share.masked_fill(broken, 0), constant, method)
    else:
        call.findings.constant(constant, method, "their curves are straight lines")
    return ranking, broken


def _ends(
    call: Call, buffer: ExampleBuffer, stand_ins: dict[str, Resolved], clean: Tensor
) -> dict[str, Tensor]:
    """The score of the baseline of each curve; of one that two curves share, once."""
    ends: dict[str, Tensor] = {}
    for name, stand_in in stand_ins.items():
        same = [other for other in ends if stand_ins[other] is stand_in]
        if same:
            ends[name] = ends[same[0]]
            continue
        buffer.add(stand_in[0], range(call.samples))
        ends[name] = buffer.finish()
        call.findings.baseline(clean, ends[name], name)
    return ends


def _areas(
    call: Call,
    buffer: ExampleBuffer,
    stand_ins: dict[str, Resolved],
    clean: Tensor,
    ends: dict[str, Tensor],
    method: str,
    ranking: Ranking,
    broken: Tensor,
    arguments: CurveArguments,
) -> Areas:
    inserting = [
        Way(stand_ins[name][0], call.inputs, call.channel_dims, ends[name], clean) for name in ends
    ]
    ways = [
        way if name == "insertion" else way.back()
        for name, way in zip(ends, inserting, strict=True)
    ]
    broken = broken.to(clean.device)  # a model may answer on another device than it is asked on
    scores = curves(buffer, ways, ranking, broken)
    call.check_scores(torch.isfinite(scores).all(2).all(0) | broken, method)
    fractions = ranking.fractions(scores.dtype).to(scores.device)
    under = area(scores, fractions)
    under = under.masked_fill(~torch.isfinite(under), torch.nan)
    return Areas(
        area=dict(zip(ends, under, strict=True)),
        scores=dict(zip(ends, scores, strict=True)) if arguments.return_curves else {},
        fractions=fractions if arguments.return_curves else None,
        clean_score=clean,
        baseline_score=ends,
        tied_share=ranking.tied_share.to(scores.device).masked_fill(broken, torch.nan),
        protocol=call.protocol(
            " and ".join(ends),
            {name: label for name, (_, label) in stand_ins.items()},
            n_steps=ranking.counts.shape[1] - 1,
            features=ranking.features,
            ties=arguments.ties,
        ),
    )
