"""Names the dtypes where torch's error names neither the inputs nor the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def naming_dtypes(
    forward_func: Any, inputs: Sequence[Any], name: str = "inputs", model: str = "model"
) -> Iterator[None]:
    """A context for a run of ``forward_func``, after whose failure the dtypes are compared.

    They are not compared before, since a model may convert its inputs.

    Args:
        forward_func: The model; only a module's parameters are known.
        inputs: Its inputs.
        name: The name of the inputs in messages.
        model: How to write the model in messages.

    Raises:
        ValueError: Torch failed because of a dtype, and no parameter has that of the inputs.
    """
    try:
        yield
    except RuntimeError as error:
        # Such as "expected m1 and m2 to have the same dtype" or "expected scalar type Half".
        if "type" not in str(error) or not isinstance(forward_func, nn.Module):
            raise
        known = {
            each.dtype: parameter
            for parameter, each in reversed([*forward_func.named_parameters()])
            if each.is_floating_point()
        }
        for tensor in inputs:
            # Other integers are indices.
            images = isinstance(tensor, Tensor) and (
                tensor.is_floating_point() or tensor.dtype == torch.uint8
            )
            if images and known and tensor.dtype not in known:
                dtype, parameter = next(iter(reversed(known.items())))
                convert = (
                    f", or call {model}.to({tensor.dtype})" if tensor.is_floating_point() else ""
                )
                raise ValueError(
                    f"{name} are in {tensor.dtype}, but the model's {parameter!r} is in {dtype}:"
                    f" pass {name} in {dtype}{convert}."
                ) from error
        raise
