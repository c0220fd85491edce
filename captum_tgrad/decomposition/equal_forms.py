"""Operations in a form with the same result that costs less forward and backward.

A gradient of the input alone needs less than an operation keeps for all of its arguments: a batch
norm in evaluation mode is a multiplication and an addition, and a clamp needs only its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias_rules import (
    NoClosedFormError,
    affine_of_batch_norm,
    limits_of_clamp,
)
from captum_tgrad.decomposition.call import Call


def run(call: Call) -> Any:
    """What the call returns, from its equal form if it has one."""
    form = _FORMS.get(call.name)
    if form is not None and _is_plain(call.args):
        try:
            return form(call)
        except NoClosedFormError:
            pass
    return call()


def _is_plain(args: tuple[Any, ...]) -> bool:
    """Whether the call is of the kind that was measured to gain, on a tensor that hides nothing."""
    return (
        bool(args)
        and type(args[0]) is Tensor
        and args[0].is_cpu
        and args[0].dtype in (torch.float32, torch.float64)
        and not torch._C._functorch.is_functorch_wrapped_tensor(args[0])
    )


def _batch_norm(call: Call) -> Tensor:
    """``z * scale + shift``, whose backward pass is one multiplication and needs no ``z``."""
    z: Tensor = call.args[0]
    scale, shift = affine_of_batch_norm(call)
    if z.dim() < 2 or scale.dtype != z.dtype or shift.dtype != z.dtype:
        raise NoClosedFormError
    per_channel = (-1, *[1] * (z.dim() - 2))
    return (z * scale.reshape(per_channel)).add_(shift.reshape(per_channel))


def _clamp_in_place(call: Call) -> Tensor:
    """A clamp that overwrites its argument and keeps no copy of it."""
    z: Tensor = call.args[0]
    if not call.in_place or z._is_view() or not torch.is_grad_enabled():
        raise NoClosedFormError
    _ClampInPlace.apply(z, *limits_of_clamp(call))
    return z


class _ClampInPlace(torch.autograd.Function):
    """Where the result lies between the limits the argument did: autograd keeps a copy of it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, low: float, high: float) -> Tensor:
        ctx.limits = low, high
        ctx.mark_dirty(z)
        z.clamp_(low, high)
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, result, *ctx.limits), None, None


_FORMS: dict[str, Callable[[Call], Tensor]] = {
    "batch_norm": _batch_norm,
    "relu6": _clamp_in_place,
    "hardtanh": _clamp_in_place,
}
