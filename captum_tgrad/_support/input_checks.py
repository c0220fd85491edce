"""Checks of a model, its inputs and their channel dimensions, before the model runs."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.jit._script import RecursiveScriptModule

from captum_tgrad._support.arguments import got
from captum_tgrad._support.suggest import few

_IMAGES = " Preprocess images as in training: images.float() alone keeps values up to 255."
_TOKENS = (
    " For token IDs, explain the embedding: LayerTGradAttribution(model, embedding_layer) with"
    " channel_dim=-1. For other integers, pass inputs.float()."
)


def check_callable(forward_func: Any, argument: str = "forward_func") -> None:
    """Raises TypeError unless ``forward_func`` can be called with inputs."""
    if isinstance(forward_func, type) and issubclass(forward_func, nn.Module):
        name = forward_func.__name__
        raise TypeError(f"{argument} is the class {name}: pass an instance, {name}().")
    if not callable(forward_func):
        hint = ": pass its model" * isinstance(getattr(forward_func, "model", None), nn.Module)
        if isinstance(forward_func, Tensor):
            hint = ": pass the model, not its output"
        if isinstance(forward_func, (str, Path, Mapping)):
            hint = ": load weights with model.load_state_dict, and pass the model"
        raise TypeError(
            f"{argument} must be a module or another callable, got"
            f" {type(forward_func).__name__}{hint}."
        )


def check_forward_func(forward_func: Any, argument: str = "forward_func") -> None:
    """Raises TypeError unless ``forward_func`` is a callable whose operations can be traced."""
    if isinstance(forward_func, torch.jit.ScriptModule):
        raise TypeError(
            f"{argument} is a scripted module, whose operations cannot be traced. Pass the"
            " nn.Module it was made from."
        )
    check_callable(forward_func, argument)


def check_not_scripted(layer: nn.Module, name: str) -> None:
    """Raises TypeError for a layer on which torch allows no hooks."""
    if isinstance(layer, RecursiveScriptModule):
        raise TypeError(
            f"{name} is a scripted module, whose activation torch does not show. In the model,"
            " wrap it in nn.Sequential, and pass that module."
        )


def checked_inputs(
    inputs: Any, forward_func: Any, differentiable: bool = True
) -> tuple[Tensor, ...]:
    """The inputs as a tuple; raises TypeError or ValueError for those that cannot be explained.

    They have to be finite and on the model's device and, if ``differentiable``, floats.
    """
    named = named_tensors(inputs)
    for name, tensor in named:
        if differentiable and not tensor.is_floating_point():
            advice = _IMAGES if tensor.dtype == torch.uint8 else _TOKENS
            raise TypeError(
                f"{name} has dtype {tensor.dtype}, but gradients need real floating-point numbers."
                f"{'' if tensor.is_complex() else advice} Pass tensors that are not explained as"
                " additional_forward_args."
            )
        if tensor.dim() > 5:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, with more than three spatial dimensions."
                " Pass (N, features) up to (N, channels, depth, height, width)."
            )
        broken = broken_samples(tensor)
        if bool(broken.any()):
            raise ValueError(
                f"{name} holds NaN or inf in sample {listed(broken)}. Leave these out, or see"
                " torch.nan_to_num."
            )
    tensors = tuple(tensor for _, tensor in named)
    check_device(forward_func, tensors)
    return tensors


def broken_samples(tensor: Tensor) -> Tensor:
    """Which samples hold NaN or inf, ``(N,)``."""
    tensor = tensor.detach()
    if bool(tensor.sum().isfinite()):  # faster than a test of each element
        return torch.zeros(len(tensor), dtype=torch.bool, device=tensor.device)
    return ~torch.isfinite(tensor).reshape(tensor.shape[0], -1).all(1)


def listed(samples: Tensor) -> str:
    """The numbers of the samples that are True in ``samples``, at most ten of them."""
    return few(samples.nonzero().flatten().tolist())


def input_names(count: int) -> list[str]:
    """The names of the inputs in messages."""
    return ["inputs"] if count == 1 else [f"inputs[{number}]" for number in range(count)]


def named_tensors(inputs: Any) -> list[tuple[str, Tensor]]:
    """The inputs with their names in messages; raises TypeError or ValueError for unusable ones."""
    if not isinstance(inputs, (Tensor, tuple)):
        raise TypeError(
            f"inputs must be a torch.Tensor or a tuple of them, got {_got_as_inputs(inputs)}."
        )
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if not tensors:
        raise ValueError("inputs is an empty tuple: pass at least one tensor.")
    named = list(zip(input_names(len(tensors)), tensors, strict=True))
    for name, tensor in named:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {got(tensor)}.")
        _check_kind(name, tensor)
        if tensor.dim() == 0 or tensor.numel() == 0:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}: pass at least one sample, batch dimension"
                " first, without dimensions of size 0."
            )
        first = tensors[0]
        if len(tensor) != len(first):
            raise ValueError(
                f"inputs must have the same batch size: inputs[0] has {len(first)} samples, {name}"
                f" has {len(tensor)}."
            )
        if tensor.device != first.device:
            raise ValueError(
                f"inputs must be on one device: inputs[0] is on {first.device}, {name} on"
                f" {tensor.device}."
            )
    return named


def _got_as_inputs(inputs: Any) -> str:
    """What was passed instead of a tensor or a tuple, and what to pass."""
    if isinstance(inputs, list):
        if not all(isinstance(each, Tensor) for each in inputs):
            return "a list: convert it with torch.tensor"
        return "a list: for a batch, pass torch.stack(inputs); for several inputs, a tuple: (a, b)"
    if isinstance(inputs, Mapping) and inputs:  # as a tokenizer returns
        return (
            f"a {type(inputs).__name__}: pass a tensor of it, such as"
            f" inputs[{next(iter(inputs))!r}], and the others as additional_forward_args"
        )
    if type(inputs).__module__.startswith("PIL."):
        return "a Pillow image: preprocess it as in training, and add a batch dimension of 1"
    return got(inputs)


def _check_kind(name: str, tensor: Tensor) -> None:
    if tensor.is_nested or tensor.layout != torch.strided:
        kind = "nested" if tensor.is_nested else str(tensor.layout)
        raise TypeError(
            f"{name} is a {kind} tensor; only dense tensors can be explained. Pass"
            f" {name}.to_dense(), or the samples one by one."
        )
    if tensor.is_meta:
        raise ValueError(
            f"{name} is on the meta device and has no values. Pass a tensor with data."
        )
    if tensor.is_floating_point() and tensor.element_size() < 2:
        raise TypeError(
            f"{name} has dtype {tensor.dtype}, which has no arithmetic operations. Pass"
            f" {name}.float()."
        )


ChannelDim = int | None | tuple[int | None, ...]
"""The channel dimension of an input; a tuple for several inputs."""


def channel_dims(
    channel_dim: Any, inputs: tuple[Tensor, ...], embedded: bool = True
) -> tuple[int | None, ...]:
    """The channel dimension of each input; None where there is none.

    If integers are ``embedded``, it is a dimension of their embedding, whose shape is not known
    yet. Raises TypeError or ValueError for dimensions that do not fit the inputs.
    """
    given = channel_dim if isinstance(channel_dim, tuple) else (channel_dim,) * len(inputs)
    if len(given) != len(inputs):
        raise ValueError(
            f"channel_dim must have one entry per input, got {len(given)} for {len(inputs)}."
        )
    dims = []
    for name, dim, tensor in zip(input_names(len(inputs)), given, inputs, strict=True):
        if dim is not None and (not isinstance(dim, Integral) or isinstance(dim, bool)):
            raise TypeError(
                "channel_dim must be an int, None, or a tuple with one of them for each input, got"
                f" {channel_dim!r}."
            )
        dims.append(None if dim is None else int(dim))
        if tensor.is_floating_point() or not embedded:
            check_channel_dim(dims[-1], tensor, name)
    return tuple(dims)


def check_channel_dim(channel_dim: int | None, tensor: Tensor, name: str) -> None:
    """Raises ValueError if it is the batch dimension of a tensor, or out of range."""
    rank = tensor.dim()
    if channel_dim is None or (channel_dim == 1 and rank == 1):
        return  # 1 is the default, for inputs without channels
    if not -rank <= channel_dim < rank or channel_dim % rank == 0:
        others = f"a dimension from 1 to {rank - 1}, or " * (rank > 1)
        raise ValueError(
            f"channel_dim is {channel_dim}, but {name} has shape {tuple(tensor.shape)}, whose"
            f" dimension 0 is the batch. Pass {others}None if {name} has no channels."
        )


def check_device(forward_func: Any, inputs: tuple[Tensor, ...]) -> None:
    """Raises ValueError if all parameters of a module are on another device than the inputs."""
    if not isinstance(forward_func, nn.Module):
        return
    first = next(iter(forward_func.parameters()), None)
    if first is None or first.device == inputs[0].device:
        return  # at once, since going through all parameters takes milliseconds
    device = first.device
    if any(parameter.device != device for parameter in forward_func.parameters()):
        return
    advice = f"Move one of them: inputs.to({str(device)!r})"
    if device.type == "meta":
        advice = "It has no values: load its weights with load_state_dict(..., assign=True)"
    raise ValueError(f"inputs are on {inputs[0].device}, the model is on {device}. {advice}.")
