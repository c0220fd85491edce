"""Closed forms of normalisations."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias, ChannelBias, ElementBias
from captum_tgrad.decomposition.biases.closed_form import NoClosedFormError, require_constant
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.precision import in_full_precision


def batch_norm(call: Call, output: Tensor) -> Bias | None:
    """``beta - running_mean * gamma / sqrt(running_var + eps)``; gamma and beta are optional."""
    _, shift = affine_of_batch_norm(call)
    return ChannelBias(shift, 1)


def affine_of_batch_norm(call: Call) -> tuple[Tensor, Tensor]:
    """The factor and the shift of each channel, both of shape ``(channels,)``."""
    if len(call.args) == 9:  # torch.batch_norm, whose arguments come in another order
        raise NoClosedFormError
    if "affine" not in call.shared:
        mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
        weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
        require_constant(mean, variance, weight, bias)
        scale = (variance + call.argument(7, "eps", 1e-5)).rsqrt_()
        scale = scale if weight is None else scale.mul_(weight)
        shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
        call.shared["affine"] = scale, shift
    affine: tuple[Tensor, Tensor] = call.shared["affine"]
    return affine


def layer_norm(call: Call, output: Tensor) -> Bias | None:
    """``beta + (y - beta) * v / (v + eps)`` with v the variance that is divided by.

    Normalisation is of degree zero but for ``eps``: nearly all of its output is ``b``.
    """
    z, shape = call.argument(0, "input"), call.argument(1, "normalized_shape")
    bias, eps = call.argument(3, "bias"), call.argument(4, "eps", 1e-5)
    require_constant(call.argument(2, "weight"), bias)
    variance = in_full_precision(z.detach()).var(
        tuple(range(-len(shape), 0)), unbiased=False, keepdim=True
    )
    return _normalised(output, variance / (variance + eps), bias)


def group_norm(call: Call, output: Tensor) -> Bias | None:
    """As :func:`layer_norm`, over groups of channels and all places."""
    z, groups = call.argument(0, "input"), call.argument(1, "num_groups")
    bias, eps = call.argument(3, "bias"), call.argument(4, "eps", 1e-5)
    require_constant(call.argument(2, "weight"), bias)
    variance = in_full_precision(z.detach()).reshape(z.shape[0], groups, -1).var(-1, unbiased=False)
    ratio = (variance / (variance + eps)).repeat_interleave(z.shape[1] // groups, dim=1)
    per_channel = (-1,) + (1,) * (z.dim() - 2)
    bias = None if bias is None else bias.reshape(per_channel)
    return _normalised(output, ratio.reshape(*z.shape[:2], *per_channel[1:]), bias)


def _normalised(output: Tensor, ratio: Tensor, bias: Tensor | None) -> Bias:
    if bias is None:
        return ElementBias(torch.mul, output, ratio)
    return ElementBias(lambda y, r, beta: beta + (y - beta) * r, output, ratio, bias)
