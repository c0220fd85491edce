"""Handles in-place operations.

They run on a copy of their argument, and the result is copied back, unless it is safe to run them
in place. A bias is computed in the backward pass, or before the model overwrites what it reads.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import ElementBias
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.coordinates import on_cells_of
from captum_tgrad.decomposition.places.moving_places import places_after
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, places
from captum_tgrad.decomposition.places.views import laid_out_as, numbers_of, same_view_of


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


def autograd_keeps_old_values(call: Call) -> bool:
    """Whether autograd saves the old values for the backward pass of an in-place call."""
    return call.name in ("silu", "hardswish") and torch.is_grad_enabled()


def places_within(base: Tensor, view: Tensor, written: Places) -> Places:
    """The places of a base tensor after a view of it was overwritten."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = laid_out_as(numbers_of(base), _for_numbers(base, indices[0]))
        same_view_of(view, base, whole).copy_(_for_numbers(view, indices[1]))
        return [_of_numbers(base, whole)]

    return places_after(run, [base, view], [places_of(base), written])[0]


def places_as_part(base: Tensor, view: Tensor) -> Places | None:
    """The places of a view, numbered by the cells of its base; None if they are unknown.

    ``x[::2]`` then keeps cells of one pixel. Alone, it would count as a subsampled grid, whose
    cells are two pixels wide.
    """
    given, whole = places_of(view), places_of(base)
    if given is None or whole is None:
        return None
    claims = [(a, on_cells_of(claim, whole.claims.get(a, ()))) for a, claim in given.pairs]
    return places(given.shape, claims)


def places_of_view(base: Tensor, view: Tensor, given: Places) -> Places:
    """The places of a view of a tensor."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = laid_out_as(numbers_of(base), _for_numbers(base, indices[0]))
        return [_of_numbers(view, same_view_of(view, base, whole))]

    return places_after(run, [base], [given])[0]


def rest_of_base(base: Tensor, view: Tensor) -> ElementBias:
    """The bias of a constant whose view was overwritten: the elements outside the view."""
    rest = laid_out_as(base, base.detach())
    same_view_of(view, base, numbers_of(rest)).zero_()
    return ElementBias(torch.Tensor.contiguous, rest)


def _for_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """Makes one value for each element of a tensor broadcastable to its numbers."""
    return index.unsqueeze(-1) if tensor.is_complex() else index


def _of_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """One cell number for each element of a tensor; 0, for no cell, only if both parts have it."""
    return index.amax(-1) if tensor.is_complex() else index
