"""Values for the backward pass that the model may overwrite before."""

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


class OldValues:
    """Knows the readers of each tensor's memory, and freezes them before it is overwritten."""

    def __init__(self) -> None:
        self._readers: dict[int, list[Reader]] = {}

    def are_read_by(self, reader: Reader) -> None:
        """Registers a reader of its ``storages``."""
        for storage in reader.storages:
            self._readers.setdefault(storage, []).append(reader)

    def forget(self) -> None:
        """Removes all readers, after the forward pass, when nothing is overwritten any more."""
        self._readers.clear()

    def freeze_readers(self, overwritten: Tensor) -> list[Reader]:
        """Freezes and returns the readers of a tensor that is about to be overwritten."""
        if not self._readers or overwritten.is_nested:  # nobody reads nested tensors
            return []
        readers = self._readers.pop(overwritten.untyped_storage().data_ptr(), [])
        for reader in readers:
            reader.freeze()
        return readers


class Kept:
    """Tensors that are copied only before a later operation of the model overwrites them.

    They are detached, because a node that holds its own results is never freed.

    Attributes:
        tensors: The tensors.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self.keep(tensors)

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Keeps these tensors instead of the ones before."""
        self.tensors = [tensor.detach() for tensor in tensors]
        self._versions = [tensor._version for tensor in self.tensors]

    @property
    def storages(self) -> set[int]:
        """The addresses of the tensors' memory."""
        return {tensor.untyped_storage().data_ptr() for tensor in self.tensors}

    def freeze(self) -> None:
        """Copies the tensors before they are overwritten."""
        self.keep([tensor.clone() for tensor in self.tensors])

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
