"""Explains errors of torch that are due to the inputs but do not name them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# For example from batch norm: "expected 4D input (got 3D input)".
_TOO_FEW = re.compile(r"xpected (\d)D .*got (\d)D input")
# For example from a convolution: "expected input[2, 64, 64, 3] to have 3 channels, but got 64".
_CHANNELS = re.compile(r"xpected input\[([\d, ]+)\] to have (\d+) channels")


@contextmanager
def explaining_errors(
    forward_func: Any,
    inputs: Sequence[Any],
    name: str = "inputs",
    model: str = "model",
    further: object = None,
) -> Iterator[None]:
    """A context for a run of ``forward_func``; if it fails, the inputs are compared with the model.

    They are not compared before, since a model may convert or reshape its inputs. Messages call
    the inputs ``name`` and the model ``model``. ``further`` are its additional arguments.

    Raises:
        TypeError: The model does not accept the additional arguments.
        ValueError: Torch failed because of a dtype, and no parameter has that of the inputs; the
            inputs have one dimension less than a batch; or their channels are last.
    """
    try:
        yield
    except TypeError as error:
        if further is not None and "positional argument" in str(error):
            raise TypeError(
                f"{error}. additional_forward_args are passed to forward_func after {name}: if you"
                " passed baselines as the second argument, leave them out."
            ) from error
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # timm's batch norm asserts
        _check_batch(error, forward_func, inputs, name)
        _check_channels(error, inputs, name)
        # Such as "expected m1 and m2 to have the same dtype" or "expected scalar type Half".
        if (
            isinstance(error, RuntimeError)
            and "type" in str(error)
            and isinstance(forward_func, nn.Module)
        ):
            _check_dtypes(error, forward_func, inputs, name, model)
        raise


def _check_dtypes(
    error: Exception, module: nn.Module, inputs: Sequence[Any], name: str, model: str
) -> None:
    """Raises ValueError if no parameter has the dtype of an input."""
    parameters = module.named_parameters()
    dtypes = {parameter: each.dtype for parameter, each in parameters if each.is_floating_point()}
    for tensor in inputs:
        # Other integers are indices.
        images = isinstance(tensor, Tensor) and (
            tensor.is_floating_point() or tensor.dtype == torch.uint8
        )
        if images and dtypes and tensor.dtype not in dtypes.values():
            parameter, dtype = next(iter(dtypes.items()))
            convert = f", or call {model}.to({tensor.dtype})" if tensor.is_floating_point() else ""
            raise ValueError(
                f"{name} are in {tensor.dtype}, but the model's {parameter!r} is in {dtype}:"
                f" pass {name} in {dtype}{convert}."
            ) from error


def _check_batch(error: Exception, forward_func: Any, inputs: Sequence[Any], name: str) -> None:
    """Raises ValueError if the inputs lack the dimension of the batch."""
    expected = _batch_dimensions(error, forward_func, inputs)
    for tensor in inputs:
        if isinstance(tensor, Tensor) and tensor.dim() + 1 == expected:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, but the model expects {expected}"
                f" dimensions, batch dimension first: for one sample, pass {name}.unsqueeze(0)."
            ) from error


def _check_channels(error: Exception, inputs: Sequence[Any], name: str) -> None:
    """Raises ValueError if the first convolution gets inputs with the channels last."""
    if not (found := _CHANNELS.search(str(error))):
        return
    shape, channels = tuple(map(int, found[1].split(","))), int(found[2])
    for tensor in inputs:
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else ()
        is_sample = (1, *got) == shape
        if (got == shape or is_sample) and got[-1] == channels:
            how = "movedim(-1, 0).unsqueeze(0)" if is_sample else "movedim(-1, 1)"
            raise ValueError(
                f"{name} has shape {got}, but the model expects the {channels} channels in"
                f" dimension 1, after the batch dimension: pass {name}.{how}."
            ) from error


def _batch_dimensions(error: Exception, forward_func: Any, inputs: Sequence[Any]) -> int | None:
    """The dimensions that torch's error asks for, or those of a batch for a first convolution.

    A convolution accepts a single sample, ``(C, *spatial)``, so that a linear layer fails.
    """
    if found := _TOO_FEW.search(str(error)):
        expected, got = int(found[1]), int(found[2])
        return expected if got == expected - 1 else None
    if "shapes cannot be multiplied" not in str(error) or not isinstance(forward_func, nn.Module):
        return None
    first = next(each for each in forward_func.modules() if next(each.children(), None) is None)
    if not isinstance(first, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    is_sample = isinstance(inputs[0], Tensor) and inputs[0].shape[:1] == (first.in_channels,)
    return first.weight.dim() if is_sample else None
