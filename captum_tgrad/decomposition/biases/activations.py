"""Closed forms of activation functions that are not homogeneous."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias, ElementBias, SaturationBias
from captum_tgrad.decomposition.biases.closed_form import NoClosedFormError
from captum_tgrad.decomposition.call import Call


def saturated(call: Call, output: Tensor) -> Bias | None:
    """ReLU6 and HardTanh: the limit where the unit is saturated, else 0."""
    low, high = (_rounded(limit, output.dtype) for limit in limits_of_clamp(call))
    if low == 0 and high > 0:
        return SaturationBias(high, output)
    return ElementBias(lambda y: y * ((y <= low) | (y >= high)), output)


def _rounded(limit: float, dtype: torch.dtype) -> float:
    """What a limit becomes in the output, which is compared with it."""
    return float(torch.tensor(limit, dtype=dtype))


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
    return ElementBias(
        lambda y, z: y * (1 - _finite(z) * (1 - y)), output, call.argument(0, "input")
    )


def tanh(call: Call, output: Tensor) -> Bias | None:
    """``y - z (1 - y^2)``."""
    return ElementBias(lambda y, z: y - _finite(z) * (1 - y * y), output, call.argument(0, "input"))


def _finite(z: Tensor) -> Tensor:
    """Further out, there is no slope that could multiply it: infinity would make it NaN."""
    return z.clamp(-1000, 1000)


def softmax(call: Call, output: Tensor) -> Bias | None:
    """``y (1 - z + <y, z>)``, the inner product over the softmax' dimension."""
    dim = call.argument(1, "dim")
    if dim is None or call.kwargs.get("dtype") is not None:
        raise NoClosedFormError

    def compute(y: Tensor, z: Tensor) -> Tensor:
        z = z.masked_fill(y == 0, 0)  # a masked logit is -inf
        return y * (1 - z + (y * z).sum(dim, keepdim=True))

    return ElementBias(compute, output, call.argument(0, "input"), elementwise=False)
