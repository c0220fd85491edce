"""What operations in place overwrite: old values that biases still need, and tensors behind views.

An operation that overwrites its argument destroys values from which biases are computed only when
their gradients arrive. What is needed of them is kept, and nothing else is copied.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias, ChannelBias, ElementBias
from captum_tgrad.decomposition.biases.rules import CLOSED_FORMS, READS_INPUT
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.layouts.layout import Layout, unknown_layout
from captum_tgrad.decomposition.layouts.origin import Lifetime, Origin, origin_of, set_origin


class Reader(Protocol):
    """What will read values on the way back that are in memory now."""

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


def before_overwriting(call: Call) -> Call:
    """An in-place call with a copy of what it overwrites, where its bias needs the old values."""
    overwritten = call.args[0]
    if autograd_keeps_old_values(call):
        return call
    closed_form = CLOSED_FORMS.get(call.name)
    if overwritten.requires_grad and closed_form and closed_form not in READS_INPUT:
        return call
    return _with_first(call, overwritten.detach().clone(), origin_of(overwritten))


def with_values_of_autograd(call: Call, result: Any, origin: Origin | None) -> Call:
    """An in-place call that has run, with the old values that autograd kept."""
    return _with_first(call, result.grad_fn._saved_self, origin)


def autograd_keeps_old_values(call: Call) -> bool:
    """Whether the backward pass of an in-place call keeps the old values, as a copy would."""
    overwritten = call.args[0]
    return (
        call.name in ("silu", "hardswish")
        and overwritten.requires_grad
        and not overwritten._is_view()
        and torch.is_grad_enabled()
    )


def _with_first(call: Call, first: Tensor, origin: Origin | None) -> Call:
    """The call with another tensor in the place of its first."""
    first = first.detach().requires_grad_(call.args[0].requires_grad)
    if origin is not None:
        set_origin(first, origin)
    return Call(call.func, (first, *call.args[1:]), call.kwargs)


def within_base(
    view: Tensor, layout: Layout, bias: Bias | None, inputs: frozenset[int], lifetime: Lifetime
) -> tuple[Tensor, Layout, Bias | None]:
    """The tensor that ``view`` is a part of, with the bias at that part.

    An operation that overwrites a view changes the tensor behind it, and that is where autograd
    sends the gradient. A constant that is partly overwritten keeps its values elsewhere, and they
    are a bias too.
    """
    base = view._base
    if base is None:
        return view, layout, bias
    origin = origin_of(base)
    if origin is None:
        samples = layout[0] if layout and layout[0].has_sample else None
        base_layout = unknown_layout(base.shape)
        if samples is not None and samples.size == base.shape[0]:
            base_layout = (samples, *base_layout[1:])
        whole = base.detach().clone()
    else:
        base_layout, inputs = origin.layout, inputs | origin.inputs
        whole = torch.zeros_like(base)
    set_origin(base, Origin(base_layout, inputs, lifetime))
    if bias is None and origin is not None:
        return base, base_layout, None
    offset = view.storage_offset() - base.storage_offset()
    part = whole.as_strided(view.shape, view.stride(), offset)
    if bias is None:
        part.zero_()
    elif isinstance(bias, ChannelBias):
        part.copy_(bias.broadcastable(view.dim()))
    else:
        part.copy_(bias.value())
    return base, base_layout, ElementBias(lambda constant: constant, whole)
