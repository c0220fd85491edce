"""In place is what it is out of place: computed in fresh memory, then copied.

An operation that overwrites its argument destroys values from which biases are computed only when
their gradients arrive. They are computed before, and nothing else is copied. Where it is safe, the
operation itself runs in place.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import ElementBias
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.moving_places import after
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places


class Reader(Protocol):
    """A consumer of current values in the backward pass."""

    @property
    def storages(self) -> set[int]:
        """Where they are in memory."""

    def freeze(self) -> None:
        """Reads them now, because they are about to be overwritten."""


class OldValues:
    """Knows who reads which memory, and lets them read before it is overwritten."""

    def __init__(self) -> None:
        self._readers: dict[int, list[Reader]] = {}

    def are_read_by(self, reader: Reader) -> None:
        """Remembers where the values are that ``reader`` reads."""
        for storage in reader.storages:
            self._readers.setdefault(storage, []).append(reader)

    def forget(self) -> None:
        """Nothing is overwritten any more: each value goes with its gradient."""
        self._readers.clear()

    def rescue(self, overwritten: Tensor) -> None:
        """Has everything read that is about to be overwritten."""
        if self._readers:
            for reader in self._readers.pop(overwritten.untyped_storage().data_ptr(), []):
                reader.freeze()


def autograd_keeps_old_values(call: Call) -> bool:
    """Whether the backward pass of an in-place call keeps the old values, as a copy would."""
    return call.name in ("silu", "hardswish") and torch.is_grad_enabled()


def places_within(base: Tensor, view: Tensor, written: Places) -> Places:
    """The places of the tensor behind a view after the view was overwritten."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = _laid_out_as(base, indices[0])
        _seen_through(view, base, whole).copy_(indices[1])
        return [whole]

    return after(run, [places_of(base), written], [base, view])[0]


def places_of_view(base: Tensor, view: Tensor, given: Places) -> Places:
    """The places of a view of a tensor."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        return [_seen_through(view, base, _laid_out_as(base, indices[0]))]

    return after(run, [given], [base])[0]


def rest_of_base(base: Tensor, view: Tensor) -> ElementBias:
    """What a constant holds beside the view that was overwritten: a bias, too."""
    rest = _laid_out_as(base, base.detach())
    _seen_through(view, base, rest).zero_()
    return ElementBias(torch.Tensor.contiguous, rest)


def _laid_out_as(base: Tensor, values: Tensor) -> Tensor:
    """A copy of ``values`` with the strides of ``base``."""
    return values.new_empty_strided(base.shape, base.stride()).copy_(values)


def _seen_through(view: Tensor, base: Tensor, whole: Tensor) -> Tensor:
    """What ``view`` shows of ``base``, of a tensor with the strides of ``base``."""
    numbers = 2 if base.is_complex() and not view.is_complex() else 1  # of view, in one of base
    offset = view.storage_offset() - numbers * base.storage_offset()
    strides = view.stride()
    if numbers == 2 and whole.is_complex():
        whole = torch.view_as_real(whole)
    elif numbers == 2:  # the real and the imaginary part of a number are at one place
        strides, offset = tuple(stride // 2 for stride in strides), offset // 2
    return whole.as_strided(view.shape, strides, whole.storage_offset() + offset)
