"""One importance for each feature, from the attributions of any method."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.arguments import check_choice, got
from captum_tgrad.decomposition.precision import in_double_precision, in_full_precision
from captum_tgrad.metrics.engine.layout import channels_back, channels_first

ChannelReduce = Literal["sum", "abs", "max"]
InterpolateMode = Literal["bilinear", "nearest", "nearest-exact", "bicubic"]

Maps = tuple[Tensor | None, ...]
"""The importance of the features of each input, ``(N, *spatial)`` or ``(N, F)``; None if frozen."""

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def importance_maps(
    attributions: Any,
    inputs: tuple[Tensor, ...],
    channel_reduce: ChannelReduce,
    interpolate_mode: InterpolateMode,
    argument: str = "attributions",
    channel_dims: tuple[int | None, ...] | None = None,
) -> Maps:
    """One map for each input; raises TypeError or ValueError for attributions that do not fit.

    ``inputs`` are channels first; attributions have their channels in ``channel_dims``, default 1.
    """
    check_choice(channel_reduce, ChannelReduce, "channel_reduce")
    check_choice(interpolate_mode, InterpolateMode, "interpolate_mode")
    each = attributions if isinstance(attributions, tuple) else (attributions,)
    if len(each) != len(inputs):
        raise ValueError(
            f"{argument} must have one entry for each input, got {len(each)} for {len(inputs)}:"
            " pass None for an input to keep unchanged, and leave out a convergence delta."
        )
    if all(tensor is None for tensor in each):
        raise ValueError(f"{argument} is None for every input: pass at least one tensor.")
    maps = []
    dims = channel_dims or (1,) * len(inputs)
    for number, (attribution, tensor, dim) in enumerate(zip(each, inputs, dims, strict=True)):
        name = f"{argument}[{number}]" if isinstance(attributions, tuple) else argument
        if attribution is not None:
            _check(attribution, channels_back(tensor, dim), name, dim)
            attribution = channels_first(attribution.detach(), dim)
            attribution = _map(attribution, tensor, channel_reduce, interpolate_mode)
        maps.append(attribution)
    return tuple(maps)


def pooled(maps: Maps) -> Tensor:
    """The importance of the features of all inputs together, ``(N, features)``."""
    return torch.cat([each.flatten(1) for each in maps if each is not None], 1)


def unpooled(values: Tensor, maps: Maps) -> Maps:
    """Values of the features of all inputs together, shaped like the map of each input."""
    sizes = [0 if each is None else each[0].numel() for each in maps]
    return tuple(
        None if each is None else part.reshape(each.shape)
        for each, part in zip(maps, torch.split(values, sizes, 1), strict=True)
    )


def is_constant(maps: Maps) -> Tensor:
    """Which samples have equal importance for all features, ``(N,)``."""
    importance = pooled(maps)
    # A single feature has no other to differ from.
    return (importance == importance[:, :1]).all(1) & (importance.shape[1] > 1)


def _check(attribution: Any, tensor: Tensor, name: str, channel_dim: int | None) -> None:
    if not isinstance(attribution, Tensor):
        several = " For several methods, pass a dict." * isinstance(attribution, list)
        raise TypeError(f"{name} must be a torch.Tensor, got {got(attribution)}.{several}")
    if attribution.is_complex():
        raise TypeError(f"{name} is complex: pass real numbers, such as {name}.abs().")
    shape, wanted = tuple(attribution.shape), tuple(tensor.shape)
    if not shape or shape[0] != wanted[0]:
        raise ValueError(
            f"{name} has shape {shape} for inputs of shape {wanted}. Pass one map for each sample."
        )
    if shape != wanted and not _is_coarse(attribution, tensor, channel_dim):
        raise ValueError(
            f"{name} of shape {shape} does not fit inputs of shape {wanted}."
            f" {_advice(attribution, tensor, name, channel_dim)}"
        )


def _is_coarse(attribution: Tensor, tensor: Tensor, channel_dim: int | None) -> bool:
    """Whether it has one channel, and each spatial size is at most that of its input."""
    if attribution.dim() != tensor.dim():
        return False
    coarse = channels_first(attribution, channel_dim).shape
    whole = channels_first(tensor, channel_dim).shape
    sizes = zip(coarse[2:], whole[2:], strict=True)
    return len(whole) > 2 and coarse[1] == 1 and all(one <= size for one, size in sizes)


def _advice(attribution: Tensor, tensor: Tensor, name: str, channel_dim: int | None) -> str:
    """What to pass instead of an attribution that does not fit."""
    shape, wanted = tuple(attribution.shape), tuple(tensor.shape)
    is_spatial = channels_first(tensor, channel_dim).dim() > 2
    if is_spatial and len(shape) == len(wanted):
        other = [dim for dim, size in enumerate(shape) if size != wanted[dim]]
        if channels_first(attribution, channel_dim).shape[1] == 1:
            return "A map may be coarser than its input, not finer."
        if len(other) == 1 and shape[other[0]] == 1:
            return f"If dimension {other[0]} holds the channels, pass it as channel_dim."
        if channel_dim and attribution.movedim(-1, channel_dim).shape == wanted:
            return f"For a map with its channels last, pass {name}.movedim(-1, {channel_dim})."
        summed = f"{name}.sum({channel_dim}, keepdim=True)"
        swapped = " If the two are swapped, pass inputs first."
        swapped *= _is_coarse(tensor, attribution, channel_dim)
        return f"For the map of a layer, sum over its channels: {summed}.{swapped}"
    if is_spatial and len(shape) == len(wanted) - 1 and channel_dim is not None:
        return f"Pass {name}.unsqueeze({channel_dim}) if its first dimension is the batch."
    if shape[:-1] == wanted:  # of embedded tokens
        return f"Sum over the embedding: {name}.sum(-1)."
    return f"Pass {wanted}."


def _map(
    attribution: Tensor, tensor: Tensor, channel_reduce: ChannelReduce, mode: InterpolateMode
) -> Tensor:
    attribution = attribution.to(tensor.device)
    # The sum of channels would have ties in half precision, as would large integers in float32.
    convert = in_full_precision if attribution.is_floating_point() else in_double_precision
    attribution = convert(attribution)
    if tensor.dim() <= 2:
        tensor = attribution = attribution.reshape(attribution.shape[0], 1, -1)
    if channel_reduce == "abs":
        attribution = attribution.abs()
    reduce = torch.amax if channel_reduce == "max" else torch.sum
    return _enlarged(reduce(attribution, 1, keepdim=True), tensor.shape[2:], mode).squeeze(1)


def _enlarged(coarse: Tensor, spatial: torch.Size, mode: InterpolateMode) -> Tensor:
    if coarse.shape[2:] == spatial:
        return coarse
    if len(spatial) > 3 or (mode == "bicubic" and len(spatial) != 2):
        raise ValueError(
            f"a map of shape {tuple(coarse.shape)} cannot be upsampled to {tuple(spatial)} with"
            f" interpolate_mode={mode!r}. Upsample it before the call."
        )
    if mode == "bilinear":
        fine = F.interpolate(coarse, spatial, mode=_LINEAR[len(spatial)], align_corners=False)
        # Rounding may exceed the range of the coarse map, and make a constant map unequal.
        places = tuple(range(2, coarse.dim()))
        return fine.clamp(coarse.amin(places, keepdim=True), coarse.amax(places, keepdim=True))
    return F.interpolate(coarse, spatial, mode=mode)
