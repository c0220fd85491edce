"""Closed forms of operations that move, scale, add or join what they are given, and of pooling."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias, ChannelBias, ElementBias
from captum_tgrad.decomposition.biases.closed_form import NoClosedFormError, require_constant
from captum_tgrad.decomposition.call import Call, map_tensors


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
    require_constant(*call.tensors[1:])
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
    require_constant(call.argument(1, "weight"), bias)
    rank = int(call.name[-2])
    return None if bias is None else ChannelBias(bias, output.dim() - rank - 1)


def linear(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    bias = call.argument(2, "bias")
    require_constant(call.argument(1, "weight"), bias)
    return None if bias is None else ChannelBias(bias, output.dim() - 1)
