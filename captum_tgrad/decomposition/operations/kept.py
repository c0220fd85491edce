"""Tensors that the backward pass of a custom autograd function reads."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor


class Kept:
    """Tensors that are copied only before a later operation of the model overwrites them.

    They are detached, because a node that holds its own results is never freed.
    """

    def __init__(self, tensors: Iterable[Tensor] = ()) -> None:
        self.keep(tensors)

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Keeps these tensors instead of the ones before."""
        self._tensors = [tensor.detach() for tensor in tensors]
        self._versions = [tensor._version for tensor in self._tensors]

    @property
    def storages(self) -> set[int]:
        """The addresses of the tensors' memory."""
        return {tensor.untyped_storage().data_ptr() for tensor in self._tensors}

    def freeze(self) -> None:
        """Copies the tensors before they are overwritten."""
        self.keep([tensor.clone() for tensor in self._tensors])

    def read(self) -> list[Tensor]:
        """The tensors.

        Raises:
            RuntimeError: One was overwritten by an operation that the trace does not see.
        """
        if [tensor._version for tensor in self._tensors] != self._versions:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an"
                " inplace operation that the trace does not see: the result of an in-place clamp,"
                " or an argument or the output of a recurrent layer"
            )
        return self._tensors
