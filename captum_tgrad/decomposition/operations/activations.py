"""Activation functions and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.helpers import of_arguments, records, require_constant
from captum_tgrad.decomposition.places.rules import cumulative, elementwise, moving
from captum_tgrad.decomposition.precision import HALF


def homogeneous_in_first(call: Call, output: Tensor) -> Bias | None:
    """``op(a z) = a op(z)`` for ``a > 0``, so ``b = 0``, if all other arguments are constant."""
    require_constant(*call.tensors[1:])
    return None


def bias_of_elu(z: Tensor, alpha: float, scale: float = 1.0, input_scale: float = 1.0) -> Bias:
    """``scale alpha (exp(u) - 1 - u exp(u))`` with ``u = input_scale z`` for ``z < 0``, else 0."""

    def compute(z: Tensor) -> Tensor:
        u = (z * input_scale).clamp_(-1000, 0)  # below, the derivative is zero
        return torch.expm1(u).addcmul_(u, u.exp(), value=-1)

    return Bias(compute, z, scale=scale * alpha)


def by_derivative(call: Call, output: Tensor) -> Bias | None:
    """``y - z dy/dz``, with torch's derivative, for an elementwise function of one tensor."""
    if len(call.tensors) > 1:
        raise NoRuleError
    return bias_by_derivative(lambda z: call.run_on(lambda tensor: z)[0], call.tensors[0])


def bias_by_derivative(function: Callable[[Tensor], Tensor], z: Tensor) -> Bias:
    """As :func:`by_derivative`, from the input."""

    def compute(z: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            y = function(leaf)
            # With `grad_outputs`, torch would import sympy, which takes seconds.
            (derivative,) = torch.autograd.grad(y.sum(), leaf)
        y = y.detach()
        z = torch.nan_to_num(z, 0, 0, 0)  # infinite elements, as of a mask, count as constants
        return torch.addcmul(y, z, derivative, value=-1).masked_fill_(y.isinf(), 0)

    return Bias(compute, z)


def bias_of_hardswish(z: Tensor) -> Bias:
    """``-z^2 / 6`` for ``|z| < 3``, else 0."""
    return Bias(lambda z: _hardtanh_backward(z.square(), z, -3, 3), z, scale=-1 / 6)


def hardsigmoid(z: Tensor) -> Tensor:
    """1 / 2 for ``|z| < 3``, else 0 or 1. torch's derivative is not exactly 1 / 6 in float64."""
    tangent: Tensor = torch.ops.aten.hardsigmoid_backward(z, z)
    return F.hardsigmoid(z) - tangent


def silu(y: Tensor, z: Tensor) -> Tensor:
    """``y - z (s + z s (1 - s)) = y (y - z)`` with ``s = sigmoid(z)``, ``y = z s``."""
    return (y - z).mul_(y)


def silu_bias(call: Call, output: Tensor) -> Bias | None:
    """As :func:`silu`. In half precision, too little would be left of the difference."""
    if output.dtype in HALF:
        return bias_of_silu(call.bound["input"])
    return Bias(silu, output, call.bound["input"])


def bias_of_silu(z: Tensor) -> Bias:
    """As :func:`silu`, from the input."""
    return Bias(lambda z: silu(F.silu(z), z), z)


def bias_of_glu(z: Tensor, dim: int) -> Bias:
    """``-a c s (1 - s)`` with ``s = sigmoid(c)``, for the halves a and c of ``z``."""
    return Bias(lambda a, c: _sigmoid_backward(a * c, torch.sigmoid(c)), *z.chunk(2, dim), scale=-1)


def sigmoid(y: Tensor, z: Tensor) -> Tensor:
    """``y - z y (1 - y)``."""
    return y * (1 - _clamped(z) * (1 - y))


def exp(y: Tensor) -> Tensor:
    """``y (1 - z)`` with ``z = log(y)``."""
    return y - torch.xlogy(y, y)


def tanh(y: Tensor, z: Tensor) -> Tensor:
    """``y - z (1 - y^2)``; near 0 by its power series, because the terms cancel."""
    z = _clamped(z)
    square = z * z
    series = square * (-496 / 2835) + 34 / 105
    for factor in (-8 / 15, 2 / 3):
        series = series.mul_(square).add_(factor)
    return torch.where(z.abs() < 0.05, series.mul_(square).mul_(z), y - z * (1 - y * y))


def bias_of_gelu(z: Tensor, approximate: str) -> Bias:
    """``-z^2`` times the standard normal density at ``z``; ``y - z dy/dz`` if approximated."""
    if approximate != "none":
        options = {"approximate": approximate}
        return Bias(lambda z: F.gelu(z, **options) - _gelu_backward(z, z, **options), z)
    zero = torch.zeros((), dtype=z.dtype, device=z.device)

    def compute(z: Tensor, zero: Tensor) -> Tensor:
        # Multiply by z twice: z * z may overflow where the density is zero.
        return torch.addcmul(zero, z, z, value=-0.5).exp_().mul_(z).mul_(z)

    return Bias(compute, z, zero, scale=-1 / math.sqrt(2 * math.pi))


def _clamped(z: Tensor) -> Tensor:
    """Clamps ``z`` to avoid ``inf * 0``. Beyond these limits, the derivative is zero."""
    return z.clamp(-1000, 1000)


def softmax(call: Call, output: Tensor) -> Bias | None:
    """``y (1 - z + <y, z>)``, with the inner product over the dimension of the softmax."""
    dim = call.bound["dim"]
    if dim is None:
        raise NoRuleError
    dim = dim % max(output.dim(), 1)

    def compute(y: Tensor, z: Tensor) -> Tensor:
        # Large logits are not shifted, although this would round less: autograd's gradient times
        # the logits has the same rounding error, and the two have to add up.
        logits = _threshold_backward(z.to(y.dtype), y, torch.finfo(y.dtype).tiny)
        y = without_subnormal(y)
        return of_softmax(y, logits.mul_(y), dim)

    return Bias(compute, output, call.bound["input"], uncut=(dim,), scale=-1)


def without_subnormal(y: Tensor) -> Tensor:
    """``y`` with 0 for numbers so small that a processor multiplies them slowly.

    A softmax has them where a mask, such as -100, was added to its logits.
    """
    return F.threshold(y, torch.finfo(y.dtype).tiny, 0)


def of_softmax(y: Tensor, product: Tensor, dim: int) -> Tensor:
    """``-b`` of :func:`softmax`, in the memory of the product ``y z``."""
    return product.addcmul_(y, product.sum(dim, keepdim=True).add_(1), value=-1)


def logcumsumexp(call: Call, output: Tensor) -> Bias:
    """``y - sum z exp(z - y)``, with the sum over all elements up to each one.

    The positive and the negative elements are summed in logarithms, as the elements of ``y`` are.
    """
    dim = call.bound["dim"]

    def compute(y: Tensor, z: Tensor) -> Tensor:
        positive, negative = (
            (z + part.clamp_min(0).log()).logcumsumexp(dim).sub_(y).exp_() for part in (z, -z)
        )
        return torch.where(y.isinf(), 0, y - positive + negative)

    return Bias(compute, output, call.bound["input"], uncut=(dim % max(output.dim(), 1),))


_sigmoid_backward = torch.ops.aten.sigmoid_backward.default
_gelu_backward = torch.ops.aten.gelu_backward.default
_threshold_backward = torch.ops.aten.threshold_backward.default
_hardtanh_backward = torch.ops.aten.hardtanh_backward.default


_like_first = partial(records, places=elementwise.like_first)
_reads_input = partial(_like_first, reads_input=True)
_SOFTMAX = "input, dim=None, _stacklevel=3, dtype=None"

SCALED_ELU = _reads_input(
    "elu",
    "input, alpha=1.0, scale=1.0, input_scale=1.0",
    bias=of_arguments(bias_of_elu, "input", "alpha", "scale", "input_scale"),
)["elu"]
"""``F.elu`` has no scales, but the native function has. Exported programs call it for SELU."""

OPERATIONS: dict[str, Operation] = {
    **_like_first(
        "relu leaky_relu prelu rrelu hardshrink abs dropout feature_dropout",
        bias=homogeneous_in_first,
    ),
    **_reads_input(
        "hardsigmoid",
        "input, inplace=False",
        bias=of_arguments(partial(Bias, hardsigmoid), "input"),
    ),
    **_reads_input(
        "hardswish", "input, inplace=False", bias=of_arguments(bias_of_hardswish, "input")
    ),
    **_reads_input("silu", "input, inplace=False", bias=silu_bias),
    **_reads_input(
        "gelu", "input, approximate='none'", bias=of_arguments(bias_of_gelu, "input", "approximate")
    ),
    **_reads_input(
        "elu", "input, alpha=1.0, inplace=False", bias=of_arguments(bias_of_elu, "input", "alpha")
    ),
    **records(
        "glu",
        "input, dim=-1",
        moving.halved,
        of_arguments(bias_of_glu, "input", "dim"),
        reads_input=True,
    ),
    **_reads_input("sigmoid", "input", bias=lambda call, y: Bias(sigmoid, y, call.bound["input"])),
    **_reads_input("tanh", "input", bias=lambda call, y: Bias(tanh, y, call.bound["input"])),
    **records("softmax", _SOFTMAX, places=elementwise.along, bias=softmax, reads_input=True),
    **_reads_input(
        "celu selu mish log_sigmoid softshrink softsign softplus threshold "
        "expm1 log log1p log2 log10 sin cos tan atan erf sign nan_to_num",
        bias=by_derivative,
    ),
    **_like_first("exp", bias=lambda call, y: Bias(exp, y)),
    **_like_first("alpha_dropout feature_alpha_dropout"),
    **records("log_softmax", _SOFTMAX, places=elementwise.along),
    **records("cumprod", "input, dim", places=cumulative.running),
    **records("logcumsumexp", "input, dim", places=cumulative.running, bias=logcumsumexp),
}
