"""Operations in a form with the same result that costs less forward and backward.

A gradient of the input alone needs less than an operation keeps for all of its arguments: a batch
norm in evaluation mode is a multiplication and an addition, and a clamp needs only its result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.activations import limits_of_clamp
from captum_tgrad.decomposition.biases.closed_form import NoClosedFormError
from captum_tgrad.decomposition.biases.normalizations import affine_of_batch_norm
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.overwriting import OldValues


def run(call: Call, old_values: OldValues) -> Any:
    """What the call returns, from its equal form if it has one.

    Args:
        call: The call.
        old_values: Is told what the way back reads that may yet be overwritten.
    """
    form = _FORMS.get(call.name)
    if form is not None and _is_plain(call.args):
        try:
            return form(call, old_values)
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


def _batch_norm(call: Call, old_values: OldValues) -> Tensor:
    """``z * scale + shift``, whose backward pass is one multiplication and needs no ``z``."""
    z: Tensor = call.args[0]
    scale, shift = affine_of_batch_norm(call)
    if z.dim() < 2 or scale.dtype != z.dtype or shift.dtype != z.dtype:
        raise NoClosedFormError
    per_channel = (-1, *[1] * (z.dim() - 2))
    return (z * scale.reshape(per_channel)).add_(shift.reshape(per_channel))


def _clamp_in_place(call: Call, old_values: OldValues) -> Tensor:
    """A clamp that overwrites its argument and keeps no copy of it."""
    z: Tensor = call.args[0]
    if not call.in_place or z._is_view() or not torch.is_grad_enabled():
        raise NoClosedFormError
    kept = _Kept()
    _ClampInPlace.apply(z, *limits_of_clamp(call), kept)
    kept.keep(z)
    old_values.are_read_by(kept)
    return z


class _Kept:
    """A result as it was, which what follows may overwrite: autograd would refuse the way back."""

    def __init__(self) -> None:
        self._tensor: Tensor | None = None
        self._version = 0

    def keep(self, result: Tensor) -> None:
        self._tensor, self._version = result.detach(), result._version

    @property
    def storages(self) -> set[int]:
        return set() if self._tensor is None else {self._tensor.untyped_storage().data_ptr()}

    def freeze(self) -> None:
        if self._tensor is not None:
            self.keep(self._tensor.clone())

    def release(self) -> Tensor:
        """The result, which is let go of."""
        result, self._tensor = self._tensor, None
        if result is None or result._version != self._version:
            raise RuntimeError(
                "what a clamp in place returned was overwritten by an operation that was not seen"
            )
        return result


class _ClampInPlace(torch.autograd.Function):
    """Where the result lies between the limits the argument did: autograd keeps a copy of it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, low: float, high: float, kept: _Kept) -> Tensor:
        ctx.limits, ctx.kept = (low, high), kept
        ctx.mark_dirty(z)
        return z.clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        result = ctx.kept.release()
        return torch.ops.aten.hardtanh_backward(gradient, result, *ctx.limits), None, None, None


_FORMS: dict[str, Callable[[Call, OldValues], Tensor]] = {
    "batch_norm": _batch_norm,
    "relu6": _clamp_in_place,
    "hardtanh": _clamp_in_place,
}
