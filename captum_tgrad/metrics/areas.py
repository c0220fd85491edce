"""Curves and areas of any number of methods on one batch, which share what they can."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from captum_tgrad._captum import TargetType
from captum_tgrad.metrics.baseline_forms import Resolved, choose, resolve_each
from captum_tgrad.metrics.baselines import Preset
from captum_tgrad.metrics.call import Call, Settings
from captum_tgrad.metrics.checks import check_count
from captum_tgrad.metrics.curves import Way, area, curves
from captum_tgrad.metrics.example_buffer import ExampleBuffer
from captum_tgrad.metrics.findings import is_constant
from captum_tgrad.metrics.ranking import Ranking, Ties, rank
from captum_tgrad.metrics.untouched import untouched


@dataclass(frozen=True)
class CurveSettings(Settings):
    """The arguments that curves have beyond those of all metrics."""

    n_steps: int
    ties: Ties
    preset: Preset

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.n_steps, "n_steps")
        if self.ties not in get_args(Ties):
            raise ValueError(f"ties must be 'stable' or 'group', got {self.ties!r}.")


@dataclass(frozen=True)
class Areas:
    """What was found for one method: for each curve its scores and the area under them."""

    area: dict[str, Tensor]
    scores: dict[str, Tensor]
    fractions: Tensor
    clean_score: Tensor
    baseline_score: dict[str, Tensor]
    tied_share: Tensor
    protocol: dict[str, Any]


def areas(
    names: tuple[str, ...],
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Any,
    baselines: Any,
    additional_forward_args: Any,
    target: TargetType,
    settings: CurveSettings,
    stacklevel: int,
) -> Areas | dict[str, Areas]:
    """The curves called ``names``, of "insertion" and "deletion", for each method.

    Args:
        names: The curves.
        forward_func: This and the following up to ``target`` as for ``insertion_deletion``.
        inputs: See there.
        attributions: See there.
        baselines: See there.
        additional_forward_args: See there.
        target: See there.
        settings: The other arguments.
        stacklevel: Whom a warning is addressed to, as for ``warnings.warn``.

    Returns:
        One for each name where ``attributions`` is a dict.
    """
    call = Call(forward_func, inputs, attributions, additional_forward_args, target, settings)
    chosen = choose(baselines, settings.preset, names)
    with untouched(forward_func, call.inputs[0].device):
        rankings = {method: _ranked(call, method, settings) for method in call.methods}
        stand_ins = resolve_each(chosen, settings.preset, call.inputs, call.frozen)
        for tensors, _ in stand_ins.values():
            call.check_finite(tensors, "baselines")
        points = next(iter(rankings.values()))[0].counts.shape[1]
        # At most: a group of tied features takes fewer.
        further = len(rankings) * len(names) * (points - 2)
        further += len({id(stand_in) for stand_in in stand_ins.values()})
        with call.clean_scores(" and ".join(names), call.samples * further) as (clean, buffer):
            ends = _ends(call, buffer, stand_ins, clean)
            found = [
                _areas(call, buffer, stand_ins, clean, ends, method, *ranked, settings)
                for method, ranked in rankings.items()
            ]
    call.findings.warn(stacklevel)
    return call.as_given(found)


def _ranked(call: Call, method: str, settings: CurveSettings) -> tuple[Ranking, Tensor]:
    """The ranking of one method, and the samples that have none."""
    maps, broken = call.maps(method)
    ranking = rank(maps, settings.n_steps, settings.ties)
    constant = is_constant(maps) & ~broken
    if settings.ties == "stable":
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
    settings: CurveSettings,
) -> Areas:
    inserting = [Way(stand_ins[name][0], call.inputs, ends[name], clean) for name in ends]
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
        scores=dict(zip(ends, scores, strict=True)),
        fractions=fractions,
        clean_score=clean,
        baseline_score=ends,
        tied_share=ranking.tied_share.to(scores.device).masked_fill(broken, torch.nan),
        protocol=call.protocol(
            " and ".join(ends),
            {name: label for name, (_, label) in stand_ins.items()},
            n_steps=ranking.counts.shape[1] - 1,
            features=ranking.features,
            ties=settings.ties,
        ),
    )
