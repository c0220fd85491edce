"""Maps functions of ``torch.ops.aten``, which exported programs call, to functions of torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._ops import OpOverload, OpOverloadPacket

from captum_tgrad.decomposition.call import NO_RECORD, Call, NoRuleError, Operation
from captum_tgrad.decomposition.torch_functions import native_name


def record_of_native(func: OpOverload | OpOverloadPacket) -> Operation:
    """A record that runs the equivalent function of torch, which has a record of its own."""
    _, name = native_name(func)
    bound = (getattr(module, name) for module in _BINDINGS if hasattr(module, name))
    function = WITHOUT_BINDING.get(name) or next(bound, None)
    return NO_RECORD if function is None else Operation(parts=_parts_calling(function))


def _parts_calling(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(call: Call) -> Any:
        try:
            return function(*call.args, **call.kwargs)
        except TypeError:  # the native function was called with more arguments
            raise NoRuleError from None

    return run


_BINDINGS = (
    torch._C._VariableFunctions,
    torch._C._nn,
    torch._C._linalg,  # type: ignore[attr-defined]
    torch._C._special,  # type: ignore[attr-defined]
    torch._C._fft,  # type: ignore[attr-defined]
    Tensor,
)
"""Modules with bindings of native functions, which take the arguments of ``torch.ops.aten``."""


def _slice(
    tensor: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    return tensor[(slice(None),) * (dim % tensor.dim()) + (slice(start, end, step),)]


def _index_put(
    tensor: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
) -> Tensor:
    if all(index is not None for index in indices):
        return tensor.index_put_(tuple(indices), values, accumulate)
    subscript = _checked_subscript(indices)
    if accumulate:  # only index_put adds, and it needs an index for each dimension
        number = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)
        every = torch.unravel_index(number[subscript], tensor.shape)
        return tensor.index_put_(every, values, accumulate)
    tensor[subscript] = values
    return tensor


def _checked_subscript(indices: Sequence[Tensor | None]) -> tuple[Tensor | slice, ...]:
    if any(index is not None and index.dim() == 0 for index in indices):
        raise NoRuleError  # a subscript treats it as an integer and orders dimensions differently
    return as_subscript(indices)


def as_subscript(indices: Sequence[Tensor | None]) -> tuple[Tensor | slice, ...]:
    """Indices as torch's ``index`` takes them, with None for all elements of a dimension."""
    return tuple([slice(None) if index is None else index for index in indices])


def _copy(tensor: Tensor, **options: Any) -> Tensor:
    options = {name: value for name, value in options.items() if value is not None}
    return tensor.to(copy=True, **options)


def _convolution(
    tensor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Tensor:
    rank = weight.dim() - 2
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    if transposed:
        options["output_padding"] = output_padding
    function = getattr(F, f"conv_transpose{rank}d" if transposed else f"conv{rank}d")
    result: Tensor = function(tensor, weight, bias, groups=groups, **options)
    return result


def _batch_norm(
    tensor: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, *options: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns empty statistics. In training mode, the trace refuses most calls."""
    if isinstance(mean, bool):  # the form without running statistics
        mean, variance, options = None, None, (mean, variance, *options)
    result = F.batch_norm(tensor, mean, variance, weight, bias, *options, **named)
    return result, tensor.new_empty(0), tensor.new_empty(0)


def _batch_norm_in_mode(training: bool) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """A batch norm that does not get its mode as an argument."""
    return lambda *args, **kwargs: _batch_norm(*[*args[:5], training, *args[5:]], **kwargs)


def _layer_norm(
    tensor: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    over = tuple(range(-len(shape), 0))
    result = F.layer_norm(tensor, list(shape), weight, bias, eps)
    return result, *_statistics(tensor, over, eps, keepdim=True)


def _group_norm(
    tensor: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    samples: int,
    channels: int,
    elements: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    result = F.group_norm(tensor, groups, weight, bias, eps)
    return result, *_statistics(tensor.reshape(samples, groups, -1), (2,), eps, keepdim=False)


def _statistics(
    tensor: Tensor, over: tuple[int, ...], eps: float, keepdim: bool
) -> tuple[Tensor, Tensor]:
    """The mean, and one over the standard deviation."""
    variance = tensor.var(over, unbiased=False, keepdim=keepdim)
    return tensor.mean(over, keepdim=keepdim), (variance + eps).rsqrt()


def _grid_sample(
    image: Tensor, grid: Tensor, mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    modes = ("bilinear", "nearest", "bicubic")
    paddings = ("zeros", "border", "reflection")
    return F.grid_sample(image, grid, modes[mode], paddings[padding_mode], align_corners)


WITHOUT_BINDING: dict[str, Callable[..., Any]] = {
    "slice": _slice,
    "index": lambda tensor, indices: tensor[_checked_subscript(indices)],
    "index_put": lambda tensor, *args, **more: _index_put(tensor.clone(), *args, **more),
    "index_put_": _index_put,
    "im2col": F.unfold,
    "col2im": F.fold,
    "alias": lambda tensor: tensor.view_as(tensor),
    "_to_copy": _copy,
    "_unsafe_view": lambda tensor, shape: tensor.reshape(shape),
    "_reshape_alias": lambda tensor, shape, strides: tensor.reshape(shape),
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_functional": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm_in_mode(training=False),
    "_batch_norm_with_update": _batch_norm_in_mode(training=True),
    "_batch_norm_with_update_functional": _batch_norm_in_mode(training=True),
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "grid_sampler": _grid_sample,
    "grid_sampler_2d": _grid_sample,
    "grid_sampler_3d": _grid_sample,
    "constant_pad_nd": lambda tensor, padding, value=0: F.pad(tensor, list(padding), value=value),
    **{
        f"{name}_pad{rank}d": partial(F.pad, mode=mode)
        for name, mode in (("reflection", "reflect"), ("replication", "replicate"))
        for rank in (1, 2, 3)
    },
}
"""Functions of ``torch.ops.aten`` with another name or other arguments than in torch."""
