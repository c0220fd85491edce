"""The score of an input that is masked with its map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_tgrad.attribution.checks import named_tensors
from captum_tgrad.metrics.baselines import Baselines
from captum_tgrad.metrics.engine.baseline_forms import resolve
from captum_tgrad.metrics.engine.checks import check_finite
from captum_tgrad.metrics.engine.features import channels_back
from captum_tgrad.metrics.engine.importance import Maps, pooled
from captum_tgrad.metrics.engine.metric_call import MetricCall


def masked_scores(call: MetricCall, *, baselines: Baselines) -> list[dict[str, Any]]:
    """The scores of the inputs, ``(N,)``, and of the inputs masked with the maps of each method."""
    _check_dtypes(call)
    masks = [_masks(call, method) for method in call.methods]
    baseline, label = resolve(baselines, call.inputs, call.frozen, call.channel_dims)
    check_finite(baseline, "baselines", call.nan_policy)
    with call.clean_scores(call.name, call.samples * len(masks)) as (clean, buffer):
        for maps, _ in masks:
            for run in buffer.chunks(call.samples):
                buffer.add(_masked(call, baseline, maps, run), run)
        scores = buffer.finish().reshape(len(masks), call.samples)
    found = []
    for method, masked, (_, broken) in zip(call.methods, scores, masks, strict=True):
        finite = torch.isfinite(clean) & torch.isfinite(masked) & ~broken.to(clean.device)
        call.check_scores(finite, method)
        found.append(
            {
                "clean_score": clean,
                "masked_score": masked.masked_fill(~finite, torch.nan),
                "protocol": call.protocol(label),
            }
        )
    return found


def _check_dtypes(call: MetricCall) -> None:
    for (name, tensor), frozen in zip(named_tensors(call.inputs), call.frozen, strict=True):
        if not (frozen or tensor.is_floating_point() or tensor.is_complex()):
            raise TypeError(
                f"{name} has dtype {tensor.dtype}, which cannot be masked by fractions: pass"
                f" {name}.float(), or None as its attributions to leave it unmasked."
            )


def _masks(call: MetricCall, method: str) -> tuple[Maps, Tensor]:
    """The maps, scaled to [0, 1] per sample over all inputs, 0 where constant; which are broken."""
    maps, broken = call.maps(method, "everything is masked")
    together = pooled(maps)
    lowest = together.amin(1)
    span = together.amax(1) - lowest
    scaled = tuple(None if each is None else _scaled(each, lowest, span) for each in maps)
    return scaled, broken


def _scaled(each: Tensor, lowest: Tensor, span: Tensor) -> Tensor:
    sizes = (-1, *[1] * (each.dim() - 1))
    scaled = (each - lowest.reshape(sizes)) / span.reshape(sizes)
    return torch.where(span.reshape(sizes) == 0, 0, scaled)


def _masked(
    call: MetricCall, baseline: tuple[Tensor, ...], maps: Maps, run: range
) -> tuple[Tensor, ...]:
    """The inputs of the samples in ``run``, masked with their maps."""
    here = slice(run.start, run.stop)
    each_input = zip(call.inputs, baseline, maps, call.channel_dims, strict=True)
    return tuple(
        tensor[here] if each is None else _mask(tensor[here], other[here], each[here], dim)
        for tensor, other, each, dim in each_input
    )


def _mask(tensor: Tensor, baseline: Tensor, each: Tensor, channel_dim: int | None) -> Tensor:
    """``baseline + map * (input - baseline)``: the input where the map is 1."""
    if tensor.dim() > 2:
        weight = channels_back(each.unsqueeze(1), channel_dim)
    else:
        weight = each.reshape(tensor.shape)
    return torch.lerp(baseline, tensor, weight.to(tensor.dtype))  # at 1, exactly the input
