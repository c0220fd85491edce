"""The ``b`` of one operation: what its output has that its input does not explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.precision import in_full_precision


@dataclass
class ChannelBias:
    """One number per channel, the same at every place.

    Args:
        values: Shape ``(channels,)``.
        dim: The output's channel dimension, counted from the front.
    """

    values: Tensor
    dim: int


class ElementBias:
    """A value per element of the output, computed only when its gradient arrives.

    Until then it holds references to tensors that autograd mostly keeps anyway, rather than a
    tensor of its own.

    Args:
        compute: From the held tensors to ``b``, broadcastable to the output.
        held: The tensors that ``compute`` reads.

    Attributes:
        scale: What sums of the product with a gradient are still to be multiplied by.
    """

    scale = 1.0

    def __init__(self, compute: Callable[..., Tensor], *held: Tensor) -> None:
        self._compute = compute
        self._held = tuple(tensor.detach() for tensor in held)
        self._value: Tensor | None = None

    @property
    def storages(self) -> set[int]:
        """Where the held tensors lie in memory, to notice that one is about to be overwritten."""
        return {tensor.untyped_storage().data_ptr() for tensor in self._held}

    def freeze(self) -> None:
        """Computes ``b`` now, because an operation is about to overwrite what it is made of."""
        if self._value is None:
            self._value = self._compute(*self._held).clone()
            self._held = ()

    def value(self) -> Tensor:
        """``b``, broadcastable to the output."""
        return self._compute(*self._held) if self._value is None else self._value

    def times(self, gradient: Tensor, rows: slice, length: int) -> Tensor:
        """``gradient * b / scale`` for some rows of the output's first dimension, in new memory.

        Args:
            gradient: Those rows of the output's gradient, in float32 or better.
            rows: Which rows they are.
            length: How many rows the whole output has.
        """
        if self._value is not None:
            return gradient * _rows(self._value, gradient, rows, length)
        held = [_rows(tensor, gradient, rows, length) for tensor in self._held]
        return self._product(gradient, held)

    def _product(self, gradient: Tensor, held: list[Tensor]) -> Tensor:
        return gradient * self._compute(*held)


class SaturationBias(ElementBias):
    """``b = limit`` where the output has reached a positive limit, else 0.

    Args:
        limit: The largest value that the output can have.
        output: The output.
    """

    def __init__(self, limit: float, output: Tensor) -> None:
        super().__init__(lambda y: (y >= limit).to(y.dtype), output)
        self.scale = self._limit = limit

    def value(self) -> Tensor:
        """``b``, broadcastable to the output."""
        return super().value() * self.scale

    def _product(self, gradient: Tensor, held: list[Tensor]) -> Tensor:
        # The backward pass of a threshold just below the limit masks in a single pass.
        (output,) = held
        below = torch.nextafter(gradient.new_tensor(self._limit), gradient.new_tensor(0.0))
        output = output.to(gradient.dtype)
        masked: Tensor = torch.ops.aten.threshold_backward(gradient, output, float(below))
        return masked


def _rows(tensor: Tensor, gradient: Tensor, rows: slice, length: int) -> Tensor:
    """The rows of what has them; what is broadcast over the first dimension is left whole."""
    own = tensor.dim() == gradient.dim() and tensor.dim() > 0 and tensor.shape[0] == length
    return in_full_precision(tensor[rows] if own else tensor)


Bias = ChannelBias | ElementBias
