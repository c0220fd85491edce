"""The ``b`` of one operation: what its output has that its input does not explain."""

from __future__ import annotations

import copy
import math
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
    elementwise = True

    def part(self, dim: int, start: int, length: int, shape: torch.Size) -> ChannelBias:
        """The bias of a block of an output of that shape."""
        if dim != self.dim:
            return self
        return ChannelBias(self.values.narrow(0, start, length), dim)


class ElementBias:
    """A value per element of the output, computed only when its gradient arrives.

    Until then it holds references to tensors that autograd mostly keeps anyway, rather than a
    tensor of its own.

    Args:
        compute: From the held tensors to ``b / scale``, broadcastable to the output.
        held: The tensors that ``compute`` reads, broadcastable to the output too.
        scale: What sums of the product with a gradient are still to be multiplied by: they are
            smaller than ``b``.
        elementwise: Whether an element of ``b`` needs no other element of them than its own;
            if not, it needs those of its sample.

    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        *held: Tensor,
        scale: float = 1.0,
        elementwise: bool = True,
    ) -> None:
        self.scale = scale
        self.elementwise = elementwise
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
        value = self._compute(*self._held) if self._value is None else self._value
        return value if self.scale == 1 else value * self.scale

    def part(self, dim: int, start: int, length: int, shape: torch.Size) -> ElementBias:
        """The bias of a block of an output of that shape."""
        part = copy.copy(self)
        part._held = tuple(_narrow(tensor, dim, start, length, shape) for tensor in self._held)
        if self._value is not None:
            part._value = _narrow(self._value, dim, start, length, shape)
        return part

    def times(self, gradient: Tensor) -> Tensor:
        """``gradient * b / scale``, in new memory; the gradient in float32 or better."""
        if self._value is not None:
            return gradient * in_full_precision(self._value)
        return self._product(gradient, [in_full_precision(tensor) for tensor in self._held])

    def _product(self, gradient: Tensor, held: list[Tensor]) -> Tensor:
        value = self._compute(*held)
        storages = {tensor.untyped_storage().data_ptr() for tensor in held}
        if (
            value.shape == gradient.shape
            and value.dtype == gradient.dtype
            and value.untyped_storage().data_ptr() not in storages
        ):
            return value.mul_(gradient)  # it was computed for this product alone
        return gradient * value


class SaturationBias(ElementBias):
    """``b = limit`` where the output has reached a positive limit, else 0.

    Args:
        limit: The largest value that the output can have.
        output: The output.
    """

    def __init__(self, limit: float, output: Tensor) -> None:
        super().__init__(lambda y: (y >= limit).to(y.dtype), output, scale=limit)
        self._limit = limit

    def _product(self, gradient: Tensor, held: list[Tensor]) -> Tensor:
        # The backward pass of a threshold just below the limit masks in a single pass.
        (output,) = held
        below = math.nextafter(self._limit, 0.0)
        if gradient.dtype == torch.float32:
            below = float(torch.nextafter(torch.tensor(self._limit), torch.tensor(0.0)))
        output = output.to(gradient.dtype)
        masked: Tensor = torch.ops.aten.threshold_backward(gradient, output, below)
        return masked


def _narrow(tensor: Tensor, dim: int, start: int, length: int, shape: torch.Size) -> Tensor:
    """The block of what has the dimension; what is broadcast over it is left whole."""
    own = dim - (len(shape) - tensor.dim())
    if own < 0 or tensor.shape[own] != shape[dim]:
        return tensor
    return tensor.narrow(own, start, length)


Bias = ChannelBias | ElementBias
