"""Normalizations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, channel_bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.copy_on_write import Readers
from captum_tgrad.decomposition.operations.clamps import passes_at_its_limits
from captum_tgrad.decomposition.operations.helpers import records, require_constant, require_plain
from captum_tgrad.decomposition.operations.layers_in_parts import another_depends, with_scale
from captum_tgrad.decomposition.places.rules import elementwise
from captum_tgrad.decomposition.precision import FULL, HALF, in_full_precision


def batch_norm(call: Call, output: Tensor) -> Bias | None:
    """``beta - running_mean * gamma / sqrt(running_var + eps)``; gamma and beta are optional."""
    _, shift = affine_of_batch_norm(call)
    return channel_bias(shift, output.dim() - 2)


def affine_of_batch_norm(call: Call) -> tuple[Tensor, Tensor]:
    """The scale and the shift of each channel, both of shape ``(channels,)``."""
    if "affine" not in call.shared:
        names = ("running_mean", "running_var", "weight", "bias")
        mean, variance, weight, bias = (call.bound[name] for name in names)
        require_constant(mean, variance, weight, bias)
        call.shared["affine"] = scale_and_shift(mean, variance, weight, bias, call.bound["eps"])
    affine: tuple[Tensor, Tensor] = call.shared["affine"]
    return affine


def scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """The scale and the shift of each channel of a batch norm with these running statistics."""
    scale = (variance + eps).rsqrt_()
    scale = scale if weight is None else scale.mul_(weight)
    shift = -mean * scale if bias is None else torch.addcmul(bias, mean, scale, value=-1)
    return scale, shift


class _FastBatchNorm(torch.autograd.Function):
    """A batch norm whose backward pass is one product, and does not read ``z``."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, scale: Tensor, run: Callable[[], Tensor]) -> Tensor:
        ctx.scale = scale
        return run()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * ctx.scale, None, None


def _with_fast_backward(call: Call, readers: Readers) -> Tensor:
    """Runs a batch norm with a faster backward pass."""
    require_plain(call)
    z: Tensor = call.args[0]
    scale, _ = affine_of_batch_norm(call)
    if z.dim() < 2 or scale.dtype != z.dtype:
        raise NoRuleError
    per_channel = scale.reshape(-1, *[1] * (z.dim() - 2))
    result: Tensor = _FastBatchNorm.apply(z, per_channel, call)
    return result


def layer_norm(call: Call, output: Tensor) -> Bias | None:
    """``beta + (y - beta) * v / (v + eps)``, with the variance v.

    Without ``eps``, ``y - beta`` would be homogeneous of degree zero: ``b`` is nearly ``y``.
    """
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    z, shape, weight, bias, eps = (call.bound[name] for name in names)
    require_constant(weight, bias)
    ratio = _variance_ratio(output, z, z.shape, tuple(range(-len(shape), 0)), eps)
    if bias is None:
        return Bias(torch.mul, output, ratio)
    # beta + (y - beta) * ratio, in one pass over the memory.
    return Bias(lambda y, r, beta: torch.lerp(beta, y, r), output, ratio, bias)


def rms_norm(call: Call, output: Tensor) -> Bias:
    """``y m / (m + eps)``, with the mean square m: nearly ``y``, as for a layer norm."""
    z, shape, weight, eps = (
        call.bound[name] for name in ("input", "normalized_shape", "weight", "eps")
    )
    require_constant(weight)
    over = tuple(range(-len(shape), 0))
    if eps is None:
        if z.dtype in HALF:
            raise NoRuleError  # versions of torch take that of z or of float32
        eps = torch.finfo(z.dtype).eps
    square = _mean_square(in_full_precision(z.detach()), over)
    return Bias(torch.mul, output, square / (square + eps))


def normalize(call: Call, output: Tensor) -> Bias:
    """``y``, because ``y`` is homogeneous of degree zero; 0 where the norm is less than ``eps``."""
    z, p, dim, eps = (call.bound[name] for name in ("input", "p", "dim", "eps"))
    if isinstance(p, str) or not p:
        raise NoRuleError  # a norm of order 0 counts elements
    norm = torch.linalg.vector_norm(z.detach(), p, dim, keepdim=True)
    is_scaled = norm >= eps if passes_at_its_limits(True, False) else norm > eps
    return Bias(torch.mul, output, is_scaled)


def bias_of_layer_norm(
    z: Tensor, mean: Tensor, deviation: Tensor, weight: Tensor | None, bias: Tensor | None
) -> Bias | None:
    """As :func:`layer_norm`, from what autograd saves; None if that is in half precision.

    The deviation is ``1 / sqrt(v + eps)``.
    """
    if deviation.dtype in HALF:
        return None
    gamma = z.new_ones(()) if weight is None else weight
    beta = z.new_zeros(()) if bias is None else bias
    over = tuple(dim for dim, size in enumerate(mean.shape) if size != z.shape[dim])

    def compute(z: Tensor, m: Tensor, d: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        centered = torch.sub(z, m, out=torch.empty_like(z, memory_format=torch.contiguous_format))
        centered.mul_(_mean_square(centered, over) * d**3)
        return torch.addcmul(beta, centered, gamma, out=centered)

    return Bias(compute, z, mean, deviation, gamma, beta, uncut=over)


def _variance_ratio(
    output: Tensor, z: Tensor, shape: Sequence[int], over: tuple[int, ...], eps: float
) -> Tensor:
    """``v / (v + eps)``, with the variance v of ``z`` in this shape along dimensions.

    The nodes of layer and group norms save ``1 / sqrt(v + eps)``, in half precision for such ``z``.
    """
    saved: Tensor | None = getattr(output.grad_fn, "_saved_result2", None)
    if saved is not None and z.dtype in FULL:
        return 1 - eps * saved.square()
    variance = variance_of(z.reshape(shape), over)
    return variance / (variance + eps)


def variance_of(z: Tensor, over: tuple[int, ...]) -> Tensor:
    """The variance along dimensions, which are kept. ``torch.var`` takes nine times as long."""
    z = in_full_precision(z.detach())
    return _mean_square(z - z.mean(over, keepdim=True), over)


def _mean_square(z: Tensor, over: tuple[int, ...]) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(z, dim=over, keepdim=True)
    return norm.square_().div_(math.prod(z.shape[dim] for dim in over))


def group_norm(call: Call, output: Tensor) -> Bias | None:
    """``beta + (y - beta) * v / (v + eps)``, with the variance v of a group of channels."""
    return _bias_of_groups(call, output, call.bound["num_groups"])


def instance_norm(call: Call, output: Tensor) -> Bias | None:
    """As a group norm with one channel per group, or as a batch norm with running statistics."""
    if call.bound["use_input_stats"]:
        return _bias_of_groups(call, output, output.shape[1])
    return batch_norm(call, output)


def _batch_norm_in_parts(call: Call) -> Tensor:
    """Runs a batch norm with the statistics of its only row as an instance norm.

    The channels of the row may be those of all samples: instance norms are written, and exported,
    as a batch norm of shape ``(1, N * C, *spatial)``. The trace refuses several rows.
    """
    if not call.bound["training"]:
        return with_scale(call)
    names = ("input", "weight", "bias", "momentum", "eps")
    z, weight, bias, momentum, eps = (call.bound[name] for name in names)
    return F.instance_norm(z, None, None, weight, bias, True, momentum, eps)


def _bias_of_groups(call: Call, output: Tensor, groups: int) -> Bias:
    z, weight, bias, eps = (call.bound[name] for name in ("input", "weight", "bias", "eps"))
    require_constant(weight, bias)
    ratio = _variance_ratio(output, z, (z.shape[0], groups, -1), (2,), eps)
    per_channel = (-1,) + (1,) * (z.dim() - 2)
    ratio = ratio.view(z.shape[0], groups).repeat_interleave(z.shape[1] // groups, dim=1)
    ratio = ratio.reshape(*z.shape[:2], *per_channel[1:])
    if bias is None:
        return Bias(torch.mul, output, ratio)
    shift = bias.reshape(per_channel) * (1 - ratio)
    # Both are broadcast along the last dimension: two operations are faster than addcmul or lerp.
    return Bias(lambda y, ratio, shift: (y * ratio).add_(shift), output, ratio, shift)


_normalization = partial(
    records, places=elementwise.normalized, parts=with_scale, parts_if=another_depends
)
_batch_norm = partial(
    records,
    "batch_norm",
    places=elementwise.like_first,
    bias=batch_norm,
    parts=_batch_norm_in_parts,
    parts_if=lambda call: call.bound["training"] or another_depends(call),
    form=_with_fast_backward,
    form_of_large=True,
)

_instance_norm = partial(_normalization, "instance_norm", bias=instance_norm)

BATCH_NORM = _batch_norm(
    "input, weight, bias, running_mean, running_var, training, momentum, eps, cudnn_enabled"
)["batch_norm"]
INSTANCE_NORM = _instance_norm(
    "input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled"
)["instance_norm"]
"""``torch.batch_norm`` and ``torch.instance_norm``, which order their parameters differently."""

OPERATIONS: dict[str, Operation] = {
    **_batch_norm(
        "input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, "
        "eps=1e-5"
    ),
    **_normalization(
        "layer_norm", "input, normalized_shape, weight=None, bias=None, eps=1e-5", bias=layer_norm
    ),
    **_normalization(
        "group_norm", "input, num_groups, weight=None, bias=None, eps=1e-5", bias=group_norm
    ),
    **records(
        "normalize", "input, p=2.0, dim=1, eps=1e-12", places=elementwise.along, bias=normalize
    ),
    **_normalization("rms_norm", "input, normalized_shape, weight=None, eps=None", bias=rms_norm),
    **_instance_norm(
        "input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, "
        "momentum=0.1, eps=1e-5"
    ),
    **records("local_response_norm", places=elementwise.normalized),
}
