"""The ``b`` of one operation: what its output has that its input does not explain."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.decomposition.scratch import Scratch


@dataclass
class ChannelBias:
    """One number per channel, the same at every place.

    Args:
        values: Shape ``(channels,)``.
        dim: The output's channel dimension, counted from the front.
    """

    values: Tensor
    dim: int
    uncut: tuple[int, ...] = ()
    scale = 1.0

    @property
    def storages(self) -> set[int]:
        """Where the values lie in memory."""
        return {self.values.untyped_storage().data_ptr()}

    def freeze(self) -> None:
        """Copies the values, because an operation is about to overwrite them."""
        self.values = self.values.clone()

    def times(self, gradient: Tensor, scratch: Scratch) -> Tensor:
        """``gradient * b``; as :meth:`ElementBias.times`."""
        values = in_full_precision(self.broadcastable(gradient.dim()))
        return _product(gradient, values, scratch)

    def broadcastable(self, rank: int) -> Tensor:
        """``values`` for an output of that many dimensions."""
        return self.values.reshape(-1, *[1] * (rank - self.dim - 1))

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
        uncut: The output's dimensions along which an element of ``b`` needs other elements of them
            than its own.
    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        *held: Tensor,
        scale: float = 1.0,
        uncut: tuple[int, ...] = (),
    ) -> None:
        self.scale = scale
        self.uncut = uncut
        self._compute = compute
        self._held = tuple([t.detach() if t.requires_grad else t for t in held])
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

    def times(self, gradient: Tensor, scratch: Scratch) -> Tensor:
        """``gradient * b / scale``, in memory that may be overwritten.

        Args:
            gradient: ``df/dy``, in float32 or better.
            scratch: Lends the memory: it is valid until the next product.
        """
        if self._value is not None:
            return _product(gradient, in_full_precision(self._value), scratch)
        held = [in_full_precision(tensor) for tensor in self._held]
        return self._times(gradient, held, scratch)

    def _times(self, gradient: Tensor, held: list[Tensor], scratch: Scratch) -> Tensor:
        value = self._compute(*held)
        storages = {tensor.untyped_storage().data_ptr() for tensor in held}
        if (
            value.shape == gradient.shape
            and value.dtype == gradient.dtype
            and value.untyped_storage().data_ptr() not in storages
        ):
            return value.mul_(gradient)  # it was computed for this product alone
        return _product(gradient, value, scratch)


class SaturationBias(ElementBias):
    """``b = limit`` where the output has reached a positive limit, else 0.

    Args:
        limit: The largest value that the output can have.
        output: The output.
    """

    def __init__(self, limit: float, output: Tensor) -> None:
        super().__init__(lambda y: (y >= limit).to(y.dtype), output, scale=limit)
        self._limit = limit

    def _times(self, gradient: Tensor, held: list[Tensor], scratch: Scratch) -> Tensor:
        # The backward pass of a threshold just below the limit masks in a single pass.
        output = held[0].to(gradient.dtype)
        masked: Tensor = torch.ops.aten.threshold_backward.grad_input(
            gradient,
            output,
            _just_below(self._limit, gradient.dtype),
            grad_input=_memory(gradient, gradient.dtype, scratch),
        )
        return masked


def in_pairs(bias: Bias, output: Tensor) -> ElementBias:
    """The bias of a complex output, real and imaginary parts in a last dimension of their own.

    So is the gradient: autograd's gradient of a complex number holds the derivatives by its real
    and by its imaginary part.
    """
    values = bias.broadcastable(output.dim()) if isinstance(bias, ChannelBias) else bias.value()
    pairs = torch.view_as_real(values.to(output.dtype).expand_as(output).resolve_conj())
    return ElementBias(torch.Tensor.contiguous, pairs)


@lru_cache
def _just_below(limit: float, dtype: torch.dtype) -> float:
    """The largest number of that type that is smaller."""
    return float(torch.nextafter(torch.tensor(limit, dtype=dtype), torch.tensor(0.0, dtype=dtype)))


def _product(gradient: Tensor, value: Tensor, scratch: Scratch) -> Tensor:
    dtype = torch.promote_types(gradient.dtype, value.dtype)
    return torch.mul(gradient, value, out=scratch.like(gradient, dtype))


def _memory(tensor: Tensor, dtype: torch.dtype, scratch: Scratch) -> Tensor:
    lent = scratch.like(tensor, dtype)
    return torch.empty_like(tensor, dtype=dtype) if lent is None else lent


def _narrow(tensor: Tensor, dim: int, start: int, length: int, shape: torch.Size) -> Tensor:
    """The block of what has the dimension; what is broadcast over it is left whole."""
    own = dim - (len(shape) - tensor.dim())
    if own < 0 or tensor.shape[own] != shape[dim]:
        return tensor
    return tensor.narrow(own, start, length)


Bias = ChannelBias | ElementBias
