"""The bias ``b`` of one operation: the part of its output that is not linear in its input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.checkpointing import without_checkpointing
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast
from captum_tgrad.decomposition.scratch import Scratch


class Bias:
    """One value per element of the output, computed only when its gradient arrives.

    Until then it holds references to tensors, most of which autograd keeps anyway.

    Args:
        compute: Takes the held tensors and returns ``b / scale``, broadcastable to the output.
        held: The tensors that ``compute`` reads, broadcastable to the output.
        scale: A constant factor of ``b``. It multiplies the sums of ``gradient * b / scale``, which
            have fewer elements than ``b``.
        uncut: The output's dimensions that cannot be cut into blocks, because an element of ``b``
            depends on other elements along them.
        register_hook: As ``Tensor.register_hook`` of the values whose gradient ``b`` is multiplied
            with; None for the output.
        from_gradient: Takes the gradient at the output and the constants, and returns the values
            that ``b`` is multiplied with; None for the gradient itself.
        places: The places of these values; None for those of the output.
        factor: The number of the argument that has these places; None for others.
        constants: Further tensors that ``compute`` or ``from_gradient`` reads.
        alike: Equal for biases that are computed together, because many small operations are slow.
            Their ``compute`` treats each sample alone, reads the same constants, and holds tensors
            with the samples first. None: it is computed alone.
    """

    def __init__(
        self,
        compute: Callable[..., Tensor],
        *held: Tensor,
        scale: float = 1.0,
        uncut: tuple[int, ...] = (),
        register_hook: Callable[[Callable[[Tensor], None]], RemovableHandle] | None = None,
        from_gradient: Callable[..., Tensor] | None = None,
        places: Places | None = None,
        factor: int | None = None,
        constants: Sequence[Tensor] = (),
        alike: object = None,
    ) -> None:
        self.register_hook = register_hook
        self.places = places
        self.factor = factor
        self.alike = alike
        self.scale = scale
        self.uncut = uncut
        self._compute = compute
        self._from_gradient = from_gradient
        self._held = tuple([t.detach() if t.requires_grad else t for t in held])
        self._constants = constants
        self._value: Tensor | None = None

    @property
    def storages(self) -> set[int]:
        """The addresses of the memory that it reads, to notice when it is overwritten."""
        return {each.untyped_storage().data_ptr() for each in (*self._held, *self._constants)}

    def freeze(self) -> None:
        """Computes ``b`` before an operation overwrites the held tensors."""
        if self._value is None:
            with without_checkpointing():
                self._value = self._computed().clone()
                reads_later = self._constants if self._from_gradient is not None else ()
                self._constants = [tensor.clone() for tensor in reads_later]
            self._held = ()
            self.alike = None

    def multiplied_values(self, gradient: Tensor) -> Tensor:
        """The values that ``b`` is multiplied with, from the gradient at the output."""
        if self._from_gradient is None:
            return gradient
        return self._from_gradient(gradient, *self._constants)

    def value(self) -> Tensor:
        """``b``, broadcastable to the output, in float32 or better."""
        value = self._computed() if self._value is None else self._value
        return value if self.scale == 1 else value * self.scale

    def _computed(self) -> Tensor:
        with without_autocast(self._held[0]) if self._held else nullcontext():
            return in_full_precision(self._compute(*map(in_full_precision, self._held)))

    def part(self, dim: int, start: int, length: int, shape: torch.Size) -> Bias:
        """The bias of a block of the output, which has the given shape."""
        part = copy.copy(self)
        part._held = tuple(_narrow(tensor, dim, start, length, shape) for tensor in self._held)
        if self._value is not None:
            part._value = _narrow(self._value, dim, start, length, shape)
        return part

    def times(self, gradient: Tensor, scratch: Scratch) -> Tensor:
        """``gradient * b / scale``, in memory that the caller may overwrite.

        Args:
            gradient: ``df/dy``, in float32 or better.
            scratch: Lends the memory of the product, which is valid until the next one.
        """
        if self._value is not None:
            return _product(gradient, self._value, scratch)
        held = [in_full_precision(tensor) for tensor in self._held]
        return self._times(gradient, held, scratch)

    def _times(self, gradient: Tensor, held: list[Tensor], scratch: Scratch) -> Tensor:
        value = self._compute(*held)
        if value.shape == gradient.shape and value.dtype == gradient.dtype:
            storages = {tensor.untyped_storage().data_ptr() for tensor in held}
            if value.untyped_storage().data_ptr() not in storages:
                return value.mul_(gradient)  # in place: value is new memory
        return _product(gradient, value, scratch)


def compute_together(biases: Sequence[Bias]) -> None:
    """Computes the values of biases that are alike."""
    first = biases[0]
    with without_autocast(first._held[0]):
        every = zip(*(bias._held for bias in biases), strict=True)
        value = first._compute(*(in_full_precision(torch.cat(held)) for held in every))
    samples = [len(bias._held[0]) for bias in biases]
    for bias, part in zip(biases, torch.split(value, samples), strict=True):
        bias._value, bias._held, bias._constants = part, (), ()


class SaturationBias(Bias):
    """``b = limit`` where the output has reached a positive limit, else 0.

    Args:
        limit: The largest value of the output.
        output: The output.
    """

    def __init__(self, limit: float, output: Tensor) -> None:
        super().__init__(lambda y: (y >= limit).to(y.dtype), output, scale=limit)
        self._limit = limit

    def _times(self, gradient: Tensor, held: list[Tensor], scratch: Scratch) -> Tensor:
        # The backward of a threshold just below the limit masks in one pass over the memory.
        (output,) = held
        if output.dtype != gradient.dtype:
            output = output.to(gradient.dtype)
        below = _just_below(self._limit, gradient.dtype)
        memory = scratch.like(gradient, gradient.dtype)
        masked: Tensor
        if memory is None:
            masked = _threshold_backward.default(gradient, output, below)
        else:
            masked = _threshold_backward.grad_input(gradient, output, below, grad_input=memory)
        return masked


_threshold_backward = torch.ops.aten.threshold_backward


def identity(constant: Tensor) -> Tensor:
    """Returns the constant, for a bias that needs no computation."""
    return constant


def channel_bias(values: Tensor, after: int) -> Bias:
    """The bias of one number per channel, with ``after`` dimensions after that of the channels."""
    return Bias(identity, values.reshape(-1, *[1] * after))


def in_pairs(bias: Bias, output: Tensor) -> Bias:
    """The bias of a complex output, with real and imaginary parts in an additional last dimension.

    Autograd's gradient of a complex tensor has the same form: its parts are the derivatives with
    respect to the real and the imaginary part.
    """
    pairs = torch.view_as_real(bias.value().to(output.dtype).expand_as(output).resolve_conj())
    return Bias(identity, pairs)


@lru_cache
def _just_below(limit: float, dtype: torch.dtype) -> float:
    """The largest number of a dtype that is smaller than ``limit``."""
    number, zero = torch.tensor([limit, 0.0], dtype=dtype, device="cpu")
    return float(torch.nextafter(number, zero))


def _product(gradient: Tensor, value: Tensor, scratch: Scratch) -> Tensor:
    dtype = gradient.dtype
    if value.dtype != dtype:
        dtype = torch.promote_types(dtype, value.dtype)
    memory = scratch.like(gradient, dtype)
    return gradient * value if memory is None else torch.mul(gradient, value, out=memory)


def _narrow(tensor: Tensor, dim: int, start: int, length: int, shape: torch.Size) -> Tensor:
    """The block of a tensor; the whole tensor if it is broadcast over the dimension."""
    own = dim - (len(shape) - tensor.dim())
    if own < 0 or tensor.shape[own] != shape[dim]:
        return tensor
    return tensor.narrow(own, start, length)
