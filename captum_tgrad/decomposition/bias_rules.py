"""What each operation adds that its input does not explain: ``b = y - D op(z)[z]``.

The table holds the operations whose ``b`` has a cheap closed form; every other operation goes
through the one rule (:mod:`~captum_tgrad.decomposition.one_rule`). Each closed form is a function
from the call and its output to the bias, or to None where ``b`` is zero: the operation is
homogeneous of degree one, ``op(a z) = a op(z)`` for ``a > 0``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ChannelBias, ElementBias, SaturationBias
from captum_tgrad.decomposition.call import Call, map_tensors
from captum_tgrad.decomposition.precision import in_full_precision

ClosedForm = Callable[[Call, Tensor], "Bias | None"]


class NoClosedFormError(Exception):
    """This form of the call has none: the one rule applies."""


def moved(call: Call, output: Tensor) -> Bias | None:
    """The same elements elsewhere, in another form or type, or zeros."""
    return None


def homogeneous(call: Call, output: Tensor) -> Bias | None:
    """Degree one in all its tensors together, so ``b = 0`` if none of them is a constant."""
    if any(tensor.is_floating_point() for tensor in call.constant):
        raise NoClosedFormError
    return None


def homogeneous_in_first(call: Call, output: Tensor) -> Bias | None:
    """Degree one in its first tensor when all the others are constant."""
    _require_constant(*call.tensors[1:])
    return None


def linear_in_one(call: Call, output: Tensor) -> Bias | None:
    """A product with one factor that depends on the input is linear in it; with more it is not."""
    return _of_degree(len(call.dependent), output)


def quotient(call: Call, output: Tensor) -> Bias | None:
    """``x / y`` is of degree 1, -1 or 0."""
    if call.kwargs.get("rounding_mode") is not None:
        raise NoClosedFormError
    flags = [isinstance(arg, Tensor) and arg.requires_grad for arg in call.args[:2]]
    numerator, denominator = reversed(flags) if call.name.startswith("r") else flags
    return _of_degree(int(numerator) - int(denominator), output)


def power(call: Call, output: Tensor) -> Bias | None:
    """``x ** p`` is of degree p."""
    exponent = call.argument(1, "exponent")
    if not isinstance(exponent, (int, float)) or not isinstance(call.args[0], Tensor):
        raise NoClosedFormError
    return _of_degree(exponent, output)


def _of_degree(degree: float, output: Tensor) -> Bias | None:
    """Euler: for ``op`` homogeneous of degree d, ``D op(z)[z] = d y``."""
    if degree == 1:
        return None
    return ElementBias(_itself, output, scale=1 - degree)


def sum_of_two(call: Call, output: Tensor) -> Bias | None:
    """``x + alpha * y`` and its relatives: the operand that is constant, where it is."""
    first, second = call.args[0], call.argument(1, "other")
    alpha = call.kwargs.get("alpha", 1)
    signs = {"sub": (1, -alpha), "subtract": (1, -alpha), "rsub": (-alpha, 1)}
    factors = signs.get(call.name, (1, alpha))
    for operand, factor in zip((first, second), factors, strict=True):
        if isinstance(operand, Tensor):
            if not operand.requires_grad:
                return ElementBias(partial(torch.mul, other=factor), _finite(operand))
        elif operand != 0:
            return ElementBias(
                partial(torch.tensor, operand * factor, dtype=output.dtype, device=output.device)
            )
    return None


def affine(call: Call, output: Tensor) -> Bias | None:
    """An operation that copies, or is linear, in what depends on the input: ``b = op(0)``."""
    args, kwargs = map_tensors(
        (call.args, call.kwargs),
        lambda tensor: torch.zeros_like(tensor) if tensor.requires_grad else tensor,
    )
    result = call.func(*args, **kwargs)
    return ElementBias(_itself, _finite(args[0] if result is None else result))


def _itself(constant: Tensor) -> Tensor:
    return constant


def _finite(constant: Tensor) -> Tensor:
    """A mask's ``-inf`` adds nothing: what it is added to has no gradient any more."""
    return torch.where(constant.isinf(), 0, constant) if constant.is_floating_point() else constant


def chosen(call: Call, output: Tensor) -> Bias | None:
    """``where``: the constants among the two alternatives, where they are chosen."""
    alternatives = [call.argument(1, "input"), call.argument(2, "other")]
    if all(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in alternatives):
        return None
    return affine(call, output)


def joined(call: Call, output: Tensor) -> Bias | None:
    """``cat`` and ``stack``: the constants among the tensors, where they are."""
    return affine(call, output) if call.constant else None


def padding(call: Call, output: Tensor) -> Bias | None:
    """Constant padding adds its value; every other padding repeats what is there."""
    if call.argument(2, "mode", "constant") == "constant" and call.argument(3, "value"):
        return affine(call, output)
    return None


def convolution(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    bias = call.argument(2, "bias")
    _require_constant(call.argument(1, "weight"), bias)
    rank = int(call.name[-2])
    return None if bias is None else ChannelBias(bias, output.dim() - rank - 1)


def linear(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    bias = call.argument(2, "bias")
    _require_constant(call.argument(1, "weight"), bias)
    return None if bias is None else ChannelBias(bias, output.dim() - 1)


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
        _require_constant(mean, variance, weight, bias)
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
    _require_constant(call.argument(2, "weight"), bias)
    variance = in_full_precision(z.detach()).var(
        tuple(range(-len(shape), 0)), unbiased=False, keepdim=True
    )
    return _normalised(output, variance / (variance + eps), bias)


def group_norm(call: Call, output: Tensor) -> Bias | None:
    """As :func:`layer_norm`, over groups of channels and all places."""
    z, groups = call.argument(0, "input"), call.argument(1, "num_groups")
    bias, eps = call.argument(3, "bias"), call.argument(4, "eps", 1e-5)
    _require_constant(call.argument(2, "weight"), bias)
    variance = in_full_precision(z.detach()).reshape(z.shape[0], groups, -1).var(-1, unbiased=False)
    ratio = (variance / (variance + eps)).repeat_interleave(z.shape[1] // groups, dim=1)
    per_channel = (-1,) + (1,) * (z.dim() - 2)
    bias = None if bias is None else bias.reshape(per_channel)
    return _normalised(output, ratio.reshape(*z.shape[:2], *per_channel[1:]), bias)


def _normalised(output: Tensor, ratio: Tensor, bias: Tensor | None) -> Bias:
    if bias is None:
        return ElementBias(torch.mul, output, ratio)
    return ElementBias(lambda y, r, beta: beta + (y - beta) * r, output, ratio, bias)


def saturated(call: Call, output: Tensor) -> Bias | None:
    """ReLU6 and HardTanh: the limit where the unit is saturated, else 0."""
    low, high = limits_of_clamp(call)
    if low == 0 and high > 0:
        return SaturationBias(high, output)
    return ElementBias(lambda y: y * ((y <= low) | (y >= high)), output)


def limits_of_clamp(call: Call) -> tuple[float, float]:
    """The smallest and the largest value that ReLU6 or HardTanh returns."""
    if call.name == "relu6":
        return 0.0, 6.0
    return call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)


def clamp(call: Call, output: Tensor) -> Bias | None:
    """The limit where it was exceeded, else 0: unlike HardTanh, the limit itself has a gradient."""
    low, high = call.argument(1, "min"), call.argument(2, "max")
    low = -math.inf if low is None else low
    high = math.inf if high is None else high
    if not all(isinstance(limit, (int, float)) for limit in (low, high)):
        raise NoClosedFormError
    return ElementBias(lambda y, z: y * ((z < low) | (z > high)), output, call.args[0])


def hardswish(call: Call, output: Tensor) -> Bias | None:
    """``-z^2 / 6`` on the slope, else 0."""
    return ElementBias(lambda z: torch.where(z.abs() < 3, z.square() / -6, 0), call.args[0])


def silu(call: Call, output: Tensor) -> Bias | None:
    """``y - z (s + z s (1 - s)) = y (y - z)`` with ``s = sigmoid(z)``, ``y = z s``."""
    return ElementBias(lambda y, z: (y - z).mul_(y), output, call.argument(0, "input"))


def gelu(call: Call, output: Tensor) -> Bias | None:
    """``-z^2`` times the standard normal density, for the exact form."""
    if call.argument(1, "approximate", "none") != "none":
        raise NoClosedFormError
    scale = -1 / math.sqrt(2 * math.pi)

    def compute(z: Tensor) -> Tensor:
        square = z.clamp(-40, 40).square()  # further out, the density is zero
        return square.mul(-0.5).exp_().mul_(square).mul_(scale)

    return ElementBias(compute, call.argument(0, "input"))


def sigmoid(call: Call, output: Tensor) -> Bias | None:
    """``y - z y (1 - y)``."""
    return ElementBias(lambda y, z: y * (1 - z * (1 - y)), output, call.argument(0, "input"))


def tanh(call: Call, output: Tensor) -> Bias | None:
    """``y - z (1 - y^2)``."""
    return ElementBias(lambda y, z: y - z * (1 - y * y), output, call.argument(0, "input"))


def softmax(call: Call, output: Tensor) -> Bias | None:
    """``y (1 - z + <y, z>)``, the inner product over the softmax' dimension."""
    dim = call.argument(1, "dim")
    if dim is None or call.kwargs.get("dtype") is not None:
        raise NoClosedFormError

    def compute(y: Tensor, z: Tensor) -> Tensor:
        z = z.masked_fill(y == 0, 0)  # a masked logit is -inf
        return y * (1 - z + (y * z).sum(dim, keepdim=True))

    return ElementBias(compute, output, call.argument(0, "input"), elementwise=False)


def _require_constant(*parameters: Any) -> None:
    if any(isinstance(tensor, Tensor) and tensor.requires_grad for tensor in parameters):
        raise NoClosedFormError


_TABLE: dict[ClosedForm, str] = {
    homogeneous: (
        # piecewise linear
        "relu leaky_relu rrelu hardshrink abs neg negative positive "
        "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
        "adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d "
        "max min amax amin maximum minimum fmax fmin sort topk kthvalue median "
        # linear
        "avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
        "adaptive_avg_pool3d sum mean nansum nanmean cumsum trace diff "
        "dropout dropout1d dropout2d dropout3d feature_dropout interpolate upsample "
        "upsample_nearest upsample_bilinear fold unfold "
        # norms
        "lp_pool1d lp_pool2d lp_pool3d norm vector_norm matrix_norm std dist cdist"
    ),
    homogeneous_in_first: "prelu grid_sample",
    moved: (
        "view reshape flatten unflatten squeeze unsqueeze ravel reshape_as view_as permute "
        "transpose swapaxes swapdims t T mT H mH adjoint movedim moveaxis getitem select narrow "
        "split chunk tensor_split split_with_sizes unbind iter expand expand_as broadcast_to "
        "repeat tile repeat_interleave roll flip fliplr flipud rot90 diagonal diag tril triu "
        "pixel_shuffle pixel_unshuffle channel_shuffle gather index_select take_along_dim "
        "masked_select clone contiguous to float double half bfloat16 type type_as cpu cuda "
        "alias requires_grad real zero"
    ),
    linear_in_one: "mul multiply rmul matmul rmatmul bmm mm mv dot einsum outer inner kron",
    quotient: "div divide truediv true_divide rtruediv rdiv",
    power: "pow",
    sum_of_two: "add radd sub subtract rsub",
    joined: "cat concat concatenate stack hstack vstack dstack",
    chosen: "where",
    affine: "masked_fill setitem index_put index_copy index_fill scatter fill copy",
    padding: "pad",
    convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    linear: "linear",
    batch_norm: "batch_norm",
    layer_norm: "layer_norm",
    group_norm: "group_norm",
    saturated: "relu6 hardtanh",
    clamp: "clamp clip",
    hardswish: "hardswish",
    silu: "silu",
    gelu: "gelu",
    sigmoid: "sigmoid",
    tanh: "tanh",
    softmax: "softmax",
}
CLOSED_FORMS: dict[str, ClosedForm] = {
    name: form for form, names in _TABLE.items() for name in names.split()
}
READS_INPUT = (clamp, hardswish, silu, gelu, sigmoid, tanh, softmax)
"""Closed forms that read the input's values, which an in-place operation overwrites."""
