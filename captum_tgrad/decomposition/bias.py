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

    def value(self, gradient: Tensor, rows: slice) -> Tensor:
        """``b`` for some rows of the output's first dimension, broadcastable to them.

        Args:
            gradient: The whole output's gradient, whose shape tells what has rows of its own.
            rows: Which rows are wanted.
        """
        if self._value is not None:
            return _rows(self._value, gradient, rows)
        return self._compute(*(_rows(held, gradient, rows) for held in self._held))


def _rows(tensor: Tensor, like: Tensor, rows: slice) -> Tensor:
    """The rows of what has them; what is broadcast over the first dimension is left whole."""
    own = tensor.dim() == like.dim() and tensor.shape[0] == like.shape[0]
    return tensor[rows] if own else tensor


Bias = ChannelBias | ElementBias
