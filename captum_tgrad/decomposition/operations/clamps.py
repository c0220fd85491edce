"""Clamps: ReLU6, Hardtanh and ``clamp``, whose biases are the limits of saturated elements."""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, SaturationBias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.copy_on_write import CopyOnWrite, Readers
from captum_tgrad.decomposition.operations.helpers import of_arguments, records, require_plain
from captum_tgrad.decomposition.places.rules import elementwise


def saturated(call: Call, output: Tensor) -> Bias | None:
    """ReLU6 and Hardtanh: the limit where an element is saturated, else 0."""
    low, high = (_rounded(call.bound[name], output.dtype) for name in ("min_val", "max_val"))
    if low == 0 and high > 0:
        return SaturationBias(high, output)
    return Bias(lambda y: y * ((y <= low) | (y >= high)), output)


@lru_cache
def _rounded(limit: float, dtype: torch.dtype) -> float:
    """A limit, rounded to the dtype of the output, so that saturated elements are equal to it."""
    return float(torch.tensor(limit, dtype=dtype, device="cpu"))


def bias_of_clamp(z: Tensor, low: Any, high: Any) -> Bias | None:
    """The limit where an element is saturated, else 0. At the limit, torch's gradient decides."""
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise NoRuleError
    if not low and not high:
        return None  # as in a ReLU
    passes = passes_at_its_limits(low is not None, high is not None)
    low = -math.inf if low is None else _rounded(low, z.dtype)
    high = math.inf if high is None else _rounded(high, z.dtype)

    def compute(z: Tensor) -> Tensor:
        within = (z >= low) & (z <= high) if passes else (z > low) & (z < high)
        return z.clamp(low, high).masked_fill_(within, 0)

    return Bias(compute, z)


@lru_cache
def passes_at_its_limits(has_low: bool, has_high: bool) -> bool:
    """Whether this version of torch passes a gradient where an element equals the limit."""
    with torch.inference_mode(False), torch.enable_grad():
        z = torch.zeros(1, device="cpu", requires_grad=True)
        high = 1.0 if has_low else 0.0
        y = z.clamp(min=0.0 if has_low else None, max=high if has_high else None)
        (gradient,) = torch.autograd.grad(y, z)
    return bool(gradient != 0)


_hardtanh_backward = torch.ops.aten.hardtanh_backward.default


class _ClampInPlace(torch.autograd.Function):
    """An in-place clamp whose backward pass reads the result instead of a copy of the argument.

    If an element of the result is between the limits, so was the element of the argument.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, low: float, high: float, kept: CopyOnWrite) -> Tensor:
        ctx.limits, ctx.kept = (low, high), kept
        ctx.mark_dirty(z)
        return z.clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (result,) = ctx.kept.read()
        if not torch._C._autograd._get_current_graph_task_keep_graph():
            ctx.kept = None  # as autograd frees what it saved
        return _hardtanh_backward(gradient, result, *ctx.limits), None, None, None


def clamp_in_place(call: Call, readers: Readers) -> Tensor:
    """Runs an in-place clamp without a copy of its argument."""
    require_plain(call)
    z: Tensor = call.args[0]
    if not call.in_place or z._is_view() or not torch.is_grad_enabled():
        raise NoRuleError
    kept = CopyOnWrite()
    _ClampInPlace.apply(z, call.bound["min_val"], call.bound["max_val"], kept)
    kept.hold([z])  # only now, because autograd raises the version of z
    readers.add(kept)
    return z


_clamp = partial(
    records,
    places=elementwise.elementwise,
    bias=of_arguments(bias_of_clamp, "input", "min", "max"),
    reads_input=True,
)
_saturates = partial(
    records, places=elementwise.like_first, bias=saturated, form=clamp_in_place, form_of_large=True
)

OPERATIONS: dict[str, Operation] = {
    **_saturates("relu6", "input, inplace=False, min_val=0.0, max_val=6.0"),
    **_saturates("hardtanh", "input, min_val=-1.0, max_val=1.0, inplace=False"),
    **_clamp("clamp clip", "input, min=None, max=None"),
    **_clamp("clamp_min", "input, min, max=None"),
    **_clamp("clamp_max", "input, max, min=None"),
}
