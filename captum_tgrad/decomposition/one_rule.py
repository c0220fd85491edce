"""The one rule that holds for every differentiable operation: ``b = y - D op(z)[z]``.

The directional derivative comes from forward-mode differentiation or, for operations that have
none, from differentiating the backward pass once more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from captum_tgrad.decomposition.bias import ElementBias
from captum_tgrad.decomposition.call import Call, map_tensors, tensors_in


def bias_from_rule(call: Call, outputs: list[Tensor]) -> list[ElementBias]:
    """``b`` of each differentiable output of a call.

    Args:
        call: The call, its tensor arguments as they were before it ran.
        outputs: The tensors that it returned.

    Returns:
        One bias for each of ``outputs``.
    """
    derivatives = _directional_derivative(call)
    return [
        ElementBias(torch.sub, output, derivative)
        for output, derivative in zip(outputs, derivatives, strict=True)
    ]


def _directional_derivative(call: Call) -> list[Tensor]:
    point = tuple(tensor.detach() for tensor in call.dependent)

    def op(*inputs: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(inputs)
        args, kwargs = map_tensors(
            (call.args, call.kwargs),
            lambda tensor: next(remaining) if tensor.requires_grad else tensor,
        )
        if call.in_place:
            args = (args[0].clone(), *args[1:])
        result = call.func(*args, **kwargs)
        result = args[0] if result is None else result
        return tuple(tensor for tensor in tensors_in(result) if tensor.is_floating_point())

    # Fused attention has neither a forward-mode derivative nor a second one; its formula has both.
    with sdpa_kernel(SDPBackend.MATH):
        try:
            derivatives = torch.func.jvp(op, point, point)[1]
        except (NotImplementedError, RuntimeError):
            derivatives = _derivative_by_double_backward(op, point)
    return [derivative.detach() for derivative in derivatives]


def _derivative_by_double_backward(op: object, point: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    _, derivatives = torch.autograd.functional.jvp(op, point, point)  # type: ignore[no-untyped-call]
    return tuple(derivatives)
