"""The score of an input of which only what its map points at is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_tgrad import __version__
from captum_tgrad._captum import NullProgress, TargetType, progress
from captum_tgrad.metrics.baselines import resolve, zeros
from captum_tgrad.metrics.checks import (
    NanPolicy,
    check_count,
    check_finite,
    check_model_and_inputs,
    frozen_inputs,
    listed,
    methods_of,
)
from captum_tgrad.metrics.example_buffer import ExampleBuffer
from captum_tgrad.metrics.findings import Findings, is_constant
from captum_tgrad.metrics.importance import (
    ChannelReduce,
    InterpolateMode,
    importance_maps,
    not_finite,
    pooled,
)
from captum_tgrad.metrics.scores import Score, Scorer
from captum_tgrad.metrics.untouched import untouched

Maps = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Settings:
    """How inputs are masked and scored; the fields are the arguments of ``average_drop``."""

    max_examples_per_batch: int
    score: Score
    channel_reduce: ChannelReduce
    interpolate_mode: InterpolateMode
    nan_policy: NanPolicy
    show_progress: bool

    def __post_init__(self) -> None:
        check_count(self.max_examples_per_batch, "max_examples_per_batch")


@dataclass(frozen=True)
class Masked:
    """The scores of one method, ``(N,)`` each; NaN in both for a sample that is left out."""

    clean_score: Tensor
    masked_score: Tensor
    protocol: dict[str, Any]


def masked_scores(
    metric: str,
    forward_func: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    attributions: Any,
    baselines: Any,
    additional_forward_args: Any,
    target: TargetType,
    settings: Settings,
    stacklevel: int,
) -> Masked | dict[str, Masked]:
    """Scores the inputs, and the inputs masked with their maps.

    Args:
        metric: What to call this in the protocol and on the progress bar.
        forward_func: This and the following up to ``target`` as for ``average_drop``.
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
    samples = tensors[0].shape[0]
    scorer = Scorer(forward_func, additional_forward_args, target, settings.score, samples)
    findings = Findings()
    findings.training(forward_func)
    with untouched(forward_func, tensors[0].device):
        masks = {
            method: _masks(method, each, tensors, settings, findings)
            for method, each in methods.items()
        }
        baseline, label = resolve(baselines, tensors, frozen, zeros)
        if settings.nan_policy == "raise":
            for tensor in baseline:
                check_finite(tensor, "baselines")
        scores = _scores(metric, scorer, tensors, baseline, masks, settings)
    findings.warn(stacklevel + 1)
    protocol = {
        "metric": metric,
        "baseline": label,
        "score": scorer.score_name,
        "target": scorer.target_name,
        "channel_reduce": settings.channel_reduce,
        "interpolate_mode": settings.interpolate_mode,
        "nan_policy": settings.nan_policy,
        "captum_tgrad": __version__,
        "torch": str(torch.__version__),
    }
    found = [
        _checked(Masked(scores[0], masked, dict(protocol)), method, settings)
        for method, masked in zip(methods, scores[1:], strict=True)
    ]
    if isinstance(attributions, Mapping):
        return dict(zip(attributions, found, strict=True))
    return found[0]


def _masks(
    method: str,
    attributions: Any,
    inputs: tuple[Tensor, ...],
    settings: Settings,
    findings: Findings,
) -> Maps:
    """The maps, scaled to [0, 1] per sample over all inputs together; 0 where constant."""
    maps = importance_maps(
        attributions, inputs, settings.channel_reduce, settings.interpolate_mode, method
    )
    if settings.nan_policy == "raise":
        for each in maps:
            if each is not None:
                check_finite(each, method)
    constant = is_constant(maps)
    findings.constant(constant & ~not_finite(maps), method, "everything is masked")
    together = pooled(maps)
    lowest = together.amin(1)
    span = together.amax(1) - lowest
    return tuple(None if each is None else _scaled(each, lowest, span) for each in maps)


def _scaled(each: Tensor, lowest: Tensor, span: Tensor) -> Tensor:
    sizes = (-1, *[1] * (each.dim() - 1))
    scaled = (each - lowest.reshape(sizes)) / span.reshape(sizes)
    return torch.where(span.reshape(sizes) == 0, 0, scaled)


def _scores(
    metric: str,
    scorer: Scorer,
    inputs: tuple[Tensor, ...],
    baseline: tuple[Tensor, ...],
    masks: dict[str, Maps],
    settings: Settings,
) -> Tensor:
    """The scores of the inputs, then those of each method's masked inputs: ``(1 + methods, N)``."""
    samples = inputs[0].shape[0]
    total = samples * (1 + len(masks))
    bar = progress(desc=metric, total=total) if settings.show_progress else NullProgress()
    with bar:
        capacity = min(settings.max_examples_per_batch, total)
        buffer = ExampleBuffer(inputs, capacity, scorer.score_clean, bar)
        buffer.add(inputs, range(samples))
        clean = buffer.finish()
        buffer.evaluate = scorer
        for maps in masks.values():
            for run in _chunks(samples, capacity):
                here = slice(run.start, run.stop)
                buffer.add(
                    tuple(
                        _mask(tensor[here], stand_in[here], None if each is None else each[here])
                        for tensor, stand_in, each in zip(inputs, baseline, maps, strict=True)
                    ),
                    run,
                )
        return torch.cat([clean, buffer.finish()]).reshape(1 + len(masks), samples)


def _chunks(samples: int, size: int) -> Iterator[range]:
    for first in range(0, samples, size):
        yield range(first, min(first + size, samples))


def _mask(tensor: Tensor, baseline: Tensor, each: Tensor | None) -> Tensor:
    """``baseline + map * (input - baseline)``: the input where the map is 1."""
    if each is None:
        return tensor
    weight = each.unsqueeze(1) if tensor.dim() > 2 else each
    return baseline + weight.to(tensor.dtype) * (tensor - baseline)


def _checked(masked: Masked, method: str, settings: Settings) -> Masked:
    broken = ~(torch.isfinite(masked.clean_score) & torch.isfinite(masked.masked_score))
    if settings.nan_policy == "raise" and bool(broken.any()):
        raise ValueError(
            f"forward_func or score gave NaN or inf for sample {listed(broken)} of {method}."
            " Pass nan_policy='omit' to get NaN for these samples."
        )
    return Masked(
        masked.clean_score,
        masked.masked_score.masked_fill(broken, torch.nan),
        masked.protocol,
    )
