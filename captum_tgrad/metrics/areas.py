"""Curves and areas of any number of methods on one batch, which share what they can."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._captum import NullProgress, TargetType, progress
from captum_tgrad.metrics import baselines as baseline_forms
from captum_tgrad.metrics.checks import (
    NanPolicy,
    check_count,
    check_finite,
    check_model_and_inputs,
    frozen_inputs,
    listed,
    methods_of,
)
from captum_tgrad.metrics.curves import Way, area, curves
from captum_tgrad.metrics.example_buffer import ExampleBuffer
from captum_tgrad.metrics.findings import Findings, is_constant
from captum_tgrad.metrics.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    not_finite,
)
from captum_tgrad.metrics.ranking import Ranking, Ties, rank
from captum_tgrad.metrics.scores import Score, Scorer
from captum_tgrad.metrics.untouched import untouched


@dataclass(frozen=True)
class Settings:
    """How curves are made; the fields are the arguments of ``insertion_deletion``."""

    n_steps: int
    max_examples_per_batch: int
    score: Score
    channel_reduce: ChannelReduce
    interpolate_mode: InterpolateMode
    ties: Ties
    preset: baseline_forms.Preset
    nan_policy: NanPolicy
    show_progress: bool

    def __post_init__(self) -> None:
        check_count(self.n_steps, "n_steps")
        check_count(self.max_examples_per_batch, "max_examples_per_batch")
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
    settings: Settings,
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
    tensors = check_model_and_inputs(forward_func, inputs, settings.nan_policy)
    methods = methods_of(attributions)
    frozen = frozen_inputs(methods, len(tensors))
    chosen = baseline_forms.choose(baselines, settings.preset, names)
    scorer = Scorer(
        forward_func, additional_forward_args, target, settings.score, tensors[0].shape[0]
    )
    findings = Findings()
    findings.training(forward_func)
    rankings: dict[str, tuple[Ranking, Tensor]] = {}
    with untouched(forward_func, tensors[0].device):
        for method, each in methods.items():
            rankings[method] = _ranked(method, each, tensors, settings, findings)
        starts = _baselines(chosen, tensors, frozen, settings)
        found = _Walker(names, scorer, tensors, starts, settings, findings).all(rankings)
    findings.warn(stacklevel + 1)
    if isinstance(attributions, Mapping):
        return dict(zip(attributions, found, strict=True))
    return found[0]


def _ranked(
    method: str,
    attributions: Any,
    inputs: tuple[Tensor, ...],
    settings: Settings,
    findings: Findings,
) -> tuple[Ranking, Tensor]:
    """The ranking of one method, and the samples that have none."""
    maps = importance_maps(
        attributions, inputs, settings.channel_reduce, settings.interpolate_mode, method
    )
    broken = not_finite(maps)
    if settings.nan_policy == "raise" and bool(broken.any()):
        for each in maps:
            if each is not None:
                check_finite(each, method)
    ranking = rank(maps, settings.n_steps, settings.ties)
    constant = is_constant(maps) & ~broken
    if settings.ties == "stable":
        findings.constant(constant, method, "their features are replaced in raster order")
        findings.ties(ranking.tied_share.masked_fill(broken, 0), constant, method)
    else:
        findings.constant(constant, method, "their curves are straight lines")
    return ranking, broken


def _baselines(
    chosen: dict[str, Any],
    inputs: tuple[Tensor, ...],
    frozen: tuple[bool, ...],
    settings: Settings,
) -> dict[str, tuple[tuple[Tensor, ...], Any]]:
    """For each curve the baseline of every input and its label; made once if it is the same."""
    made: dict[str, tuple[tuple[Tensor, ...], Any]] = {}
    defaults = baseline_forms.PRESETS[settings.preset]
    for name, form in chosen.items():
        same = [
            other
            for other in made
            if chosen[other] is form and (form is not None or defaults[other] == defaults[name])
        ]
        if same:
            made[name] = made[same[0]]
            continue
        made[name] = baseline_forms.resolve(form, inputs, frozen, defaults[name])
        if settings.nan_policy == "raise":
            for tensor in made[name][0]:
                check_finite(tensor, "baselines")
    return made


class _Walker:
    """Scores the ends once, then the curves of one method after the other."""

    def __init__(
        self,
        names: tuple[str, ...],
        scorer: Scorer,
        inputs: tuple[Tensor, ...],
        baselines: dict[str, tuple[tuple[Tensor, ...], Any]],
        settings: Settings,
        findings: Findings,
    ) -> None:
        self._names = names
        self._scorer = scorer
        self._inputs = inputs
        self._baselines = baselines
        self._settings = settings
        self._findings = findings

    def all(self, rankings: dict[str, tuple[Ranking, Tensor]]) -> list[Areas]:
        samples = self._inputs[0].shape[0]
        points = next(iter(rankings.values()))[0].counts.shape[1]
        total = samples * (
            1 + len(self._names) + len(rankings) * len(self._names) * max(points - 2, 0)
        )
        bar = (
            progress(desc=" and ".join(self._names), total=total)
            if self._settings.show_progress
            else NullProgress()
        )
        with bar:
            capacity = min(self._settings.max_examples_per_batch, total)
            buffer = ExampleBuffer(self._inputs, capacity, self._scorer.score_clean, bar)
            buffer.add(self._inputs, range(samples))
            clean = buffer.finish()
            buffer.evaluate = self._scorer
            ends = self._score_baselines(buffer, clean)
            return [
                self._areas(method, ranking, broken, buffer, clean, ends)
                for method, (ranking, broken) in rankings.items()
            ]

    def _score_baselines(self, buffer: ExampleBuffer, clean: Tensor) -> dict[str, Tensor]:
        ends: dict[str, Tensor] = {}
        for name, (baseline, _) in self._baselines.items():
            twin = next((one for one in ends if self._baselines[one][0] is baseline), None)
            if twin is not None:
                ends[name] = ends[twin]
                continue
            buffer.add(baseline, range(len(clean)))
            ends[name] = buffer.finish()
            self._findings.baseline(clean, ends[name], name)
        return ends

    def _areas(
        self,
        method: str,
        ranking: Ranking,
        broken: Tensor,
        buffer: ExampleBuffer,
        clean: Tensor,
        ends: dict[str, Tensor],
    ) -> Areas:
        ways = []
        for name in self._names:
            way = Way(self._baselines[name][0], self._inputs, ends[name], clean)
            ways.append(way if name == "insertion" else way.back())
        scores = curves(buffer, ways, ranking, broken)
        if self._settings.nan_policy == "raise":
            bad = ~torch.isfinite(scores).all(2).all(0)
            if bool(bad.any()):
                raise ValueError(
                    f"forward_func or score gave NaN or inf for sample {listed(bad)} of {method}."
                    " Pass nan_policy='omit' to get NaN for these samples."
                )
        fractions = ranking.fractions.to(scores)
        under = area(scores, fractions)
        under = under.masked_fill(~torch.isfinite(under), torch.nan)
        return Areas(
            dict(zip(self._names, under, strict=True)),
            dict(zip(self._names, scores, strict=True)),
            fractions,
            clean,
            ends,
            ranking.tied_share.masked_fill(broken, torch.nan),
            self._protocol(ranking),
        )

    def _protocol(self, ranking: Ranking) -> dict[str, Any]:
        settings = self._settings
        return {
            "metric": " and ".join(self._names),
            "baseline": {name: label for name, (_, label) in self._baselines.items()},
            "n_steps": ranking.counts.shape[1] - 1,
            "features": ranking.features,
            "score": self._scorer.score_name,
            "target": self._scorer.target_name,
            "ties": settings.ties,
            "channel_reduce": settings.channel_reduce,
            "interpolate_mode": settings.interpolate_mode,
            "nan_policy": settings.nan_policy,
            "captum_tgrad": __version__,
            "torch": str(torch.__version__),
        }
