"""Elementwise sums, products and powers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, identity
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.helpers import records
from captum_tgrad.decomposition.operations.moving import finite
from captum_tgrad.decomposition.places.rules import cumulative, elementwise


def homogeneous(call: Call, output: Tensor) -> Bias | None:
    """Homogeneous of degree one in all tensors together: ``b = 0`` if none is a constant."""
    if call.constant:
        raise NoRuleError
    return None


def product(call: Call, output: Tensor) -> Bias | None:
    """Homogeneous of degree k, if k factors depend on the input."""
    return of_degree(len(call.dependent), output)


def of_degree(degree: float, output: Tensor) -> Bias | None:
    """The bias ``(1 - d) y`` of an operation homogeneous of degree d: ``D op(z)[z] = d y``."""
    if degree == 1:
        return None
    return Bias(identity, output, scale=1 - degree)


def quotient(call: Call, output: Tensor) -> Bias | None:
    """``x / y`` is homogeneous of degree 1, -1 or 0: x, y or both depend on the input."""
    if call.kwargs.get("rounding_mode") is not None:
        raise NoRuleError
    operands = (call.bound["input"], call.bound["other"])
    numerator, denominator = (isinstance(arg, Tensor) and arg.requires_grad for arg in operands)
    return of_degree(int(numerator) - int(denominator), output)


def power(call: Call, output: Tensor) -> Bias | None:
    """``x ** p`` is homogeneous of degree p."""
    exponent = call.bound["other"]
    if not isinstance(exponent, (int, float)) or not isinstance(call.bound["input"], Tensor):
        raise NoRuleError
    return of_degree(exponent, output)


def summand(constant: Tensor, factor: float) -> Bias:
    """The bias of a sum with ``factor * constant``. Masked elements have no gradient."""
    return Bias(lambda value: finite(value) * factor, constant)


def sum_of_two(call: Call, output: Tensor) -> Bias | None:
    """``x + alpha * y`` and similar: the bias is the constant operand, if there is one."""
    first, second, alpha = (call.bound[name] for name in ("input", "other", "alpha"))
    signs = {"sub": (1, -alpha), "subtract": (1, -alpha), "rsub": (-alpha, 1)}
    factors = signs.get(call.name, (1, alpha))
    for operand, factor in zip((first, second), factors, strict=True):
        if isinstance(operand, Tensor):
            if not operand.requires_grad:
                return summand(operand, factor)
        elif operand != 0:
            return Bias(
                partial(torch.tensor, operand * factor, dtype=output.dtype, device=output.device)
            )
    return None


_elementwise = partial(records, places=elementwise.elementwise)

OPERATIONS: dict[str, Operation] = {
    **_elementwise("add radd", "input, other, alpha=1", bias=sum_of_two),
    **records("sub subtract rsub", "input, other, alpha=1", cumulative.subtracted, sum_of_two),
    **_elementwise("mul multiply rmul", "input, other", bias=product),
    **_elementwise("div divide truediv true_divide", "input, other", bias=quotient),
    **_elementwise("pow", "input, other", bias=power),
    **_elementwise("square", "input, other=2", bias=power),
    **_elementwise("sqrt", "input, other=0.5", bias=power),
    **_elementwise("rsqrt", "input, other=-0.5", bias=power),
    **_elementwise("reciprocal", "input, other=-1", bias=power),
    **_elementwise("neg negative maximum minimum fmax fmin", bias=homogeneous),
    **_elementwise(
        "floor_divide float_power fmod remainder mod atan2 arctan2 hypot copysign ldexp xlogy "
        "special_xlogy special_xlog1py logaddexp logaddexp2"
    ),
}
