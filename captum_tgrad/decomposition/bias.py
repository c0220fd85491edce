"""The ``b`` of one operation: what its output has that its input does not explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


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
    """

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


Bias = ChannelBias | ElementBias
