"""Copies values that the backward pass reads, but only if the model overwrites them before.

Autograd raises an error if a saved tensor is overwritten. Biases and hidden operations read tensors
that autograd need not save, so they are registered here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor


class Reader(Protocol):
    """An object whose backward computation reads the current values of some tensors."""

    @property
    def storages(self) -> set[int]:
        """The addresses of the memory that it reads."""

    def freeze(self) -> None:
        """Reads the values now, before they are overwritten."""


class Readers:
    """The readers of each tensor's memory. They are frozen before it is overwritten."""

    def __init__(self) -> None:
        self._readers: dict[int, list[Reader]] = {}

    def add(self, reader: Reader) -> None:
        """Registers a reader of its ``storages``."""
        for storage in reader.storages:
            self._readers.setdefault(storage, []).append(reader)

    def clear(self) -> None:
        """Removes all readers after the forward pass, when nothing is overwritten any more."""
        self._readers.clear()

    def freeze(self, overwritten: Tensor) -> list[Reader]:
        """Freezes and returns the readers of a tensor that is about to be overwritten."""
        if not self._readers or overwritten.is_nested:  # nobody reads nested tensors
            return []
        readers = self._readers.pop(overwritten.untyped_storage().data_ptr(), [])
        for reader in readers:
            reader.freeze()
        return readers


class CopyOnWrite:
    """Tensors that are copied only if a later operation of the model overwrites them.

    They are detached, because a node that holds its own results is never freed.

    Attributes:
        tensors: The tensors.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self.hold(tensors)

    def hold(self, tensors: Iterable[Tensor]) -> None:
        """Holds these tensors instead of the previous ones."""
        self.tensors = [tensor.detach() for tensor in tensors]
        self._versions = [tensor._version for tensor in self.tensors]

    @property
    def storages(self) -> set[int]:
        """The addresses of the tensors' memory."""
        return {tensor.untyped_storage().data_ptr() for tensor in self.tensors}

    def freeze(self) -> None:
        """Copies the tensors before they are overwritten."""
        self.hold([tensor.clone() for tensor in self.tensors])

    def read(self) -> list[Tensor]:
        """The tensors.

        Raises:
            RuntimeError: One was overwritten by an operation that the trace does not see.
        """
        if [tensor._version for tensor in self.tensors] != self._versions:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an"
                " inplace operation that the trace does not see: the result of an in-place clamp,"
                " an argument or the output of a recurrent layer, or a tensor that a checkpointed"
                " block needs"
            )
        return self.tensors
