"""Reads values before the model overwrites them, for computations in the backward pass."""

from __future__ import annotations

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

    def freeze_readers(self, overwritten: Tensor) -> None:
        """Freezes the readers of a tensor that is about to be overwritten."""
        if self._readers:
            for reader in self._readers.pop(overwritten.untyped_storage().data_ptr(), []):
                reader.freeze()
