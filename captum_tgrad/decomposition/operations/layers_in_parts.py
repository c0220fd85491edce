"""Layers whose weight or bias depends on the input, run as simpler operations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.rules.grids import rank_of


def another_depends(call: Call) -> bool:
    """Whether a tensor other than the first argument depends on the input."""
    return len(call.dependent) > 1 or call.dependent[0] is not call.args[0]


def with_bias(call: Call) -> Tensor:
    """A layer whose weight or sampling points depend on the input, and then its bias."""
    bias, always_has_one = call.bound["bias"], call.name == "deform_conv2d"
    if bias is None or (always_has_one and not bool(bias.any())):
        raise NoRuleError
    without = _with(call, bias=torch.zeros_like(bias) if always_has_one else None)
    result: Tensor = without + bias.reshape(bias.shape + (1,) * rank_of(call.name))
    return result


def with_scale(call: Call) -> Tensor:
    """A normalization, and then its weight and its bias, which depend on the input."""
    weight, bias = (call.bound.get(name) for name in ("weight", "bias"))
    if weight is None and bias is None:
        raise NoRuleError
    result = _with(call, weight=None, bias=None)
    after = 0 if call.name in ("layer_norm", "rms_norm") else result.dim() - 2
    for each, combine in ((weight, torch.mul), (bias, torch.add)):
        if each is not None:
            result = combine(result, each.reshape(each.shape + (1,) * after))
    return result


def _with(call: Call, **changed: Any) -> Tensor:
    """The result of the call with other values of some arguments."""
    names = list(call.record.parameters)
    args = [changed.get(name, value) for name, value in zip(names, call.args, strict=False)]
    result: Tensor = call.func(*args, **{k: v for k, v in call.kwargs.items() if k not in changed})
    return result
