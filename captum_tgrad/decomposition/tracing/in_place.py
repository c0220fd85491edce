"""Runs in-place operations, whose biases and backward passes may read the overwritten values.

If they do, the operation runs on a copy of its argument, and the result is copied back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.bias import Bias, identity
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.checkpointing import without_checkpointing
from captum_tgrad.decomposition.places.masks import kept_by_mask, mask_base, set_mask
from captum_tgrad.decomposition.places.origin import Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.views import (
    laid_out_as,
    numbers_of,
    places_as_part,
    places_within,
    same_view_of,
)
from captum_tgrad.decomposition.tracing.recorder import Recorder


def run_in_place(call: Call, original: Any, recorder: Recorder, run: Callable[[Call], Any]) -> Any:
    """Runs and records a call that overwrites its first argument.

    Args:
        call: The call. Its first argument is detached if it was computed from parameters only.
        original: The first argument as the model passed it; None if it was passed by keyword.
        recorder: Records the call.
        run: Runs a call as it is, or in an equal form.
    """
    target = call.args[0]
    recorder.readers.freeze(target)
    if call.name in _RESHAPES:
        old = _with_origin(target.detach(), origin_of(target))
        result = call()
        recorder.record(call.with_first(old), target)
        return result
    if target.requires_grad and not target._is_view():
        if call.name in _SAVE_OLD_VALUES:
            origin = origin_of(target)
            with without_checkpointing():
                result = call()
            old = _with_origin(target.grad_fn._saved_self.detach(), origin)
            recorder.record(call.with_first(old), target)
            return result
        # The one rule and others read the old values. They need the copy below.
        biases = None if call.record.reads_input else call.closed_forms([target])
        if biases is not None:
            with without_checkpointing():
                result = run(call)
            recorder.record(call, target, biases=biases)
            return result
    return _run_in_a_copy(call, original, recorder)


_RESHAPES = {"transpose", "t", "squeeze", "unsqueeze", "swapaxes", "swapdims"}

_SAVE_OLD_VALUES = {"silu", "hardswish"}
"""Operations whose old values autograd saves for the backward pass."""


def _with_origin(tensor: Tensor, origin: Origin | None) -> Tensor:
    tensor.requires_grad_()
    if origin is not None:
        set_origin(tensor, origin.places, origin.lifetime)
    return tensor


def _run_in_a_copy(call: Call, original: Any, recorder: Recorder) -> Any:
    """Runs a call on a copy of the argument that it overwrites, and copies the result back."""
    origins, target = recorder.origins, call.args[0]
    if target._base is not None:
        origin, part = origins.of(target), places_as_part(target._base, target)
        if origin is not None and part is not None:
            origins.follow(target, part)
    fresh = target.clone(memory_format=torch.preserve_format)
    random_state = RandomState(target.device)
    with without_checkpointing():
        result = call.with_first(fresh)()
    recorder.record(call, fresh, random_state)
    recorder.readers.freeze(target)
    is_other = isinstance(original, Tensor) and original is not target and not original.is_leaf
    target = original if is_other else target
    base = target._base
    was_constant = is_other or (base is not None and not base.requires_grad)
    base_mask = None if base is None else kept_by_mask(base)
    target.copy_(fresh)
    origin = origin_of(fresh)
    if origin is not None:
        origins.follow(target, origin.places)
        mask = kept_by_mask(fresh)
        if mask is not None:
            set_mask(target, mask)
        if base is not None:
            _follow_base(base, target, origin, was_constant, call.name, recorder)
            mask_base(base, base_mask, target, mask)
    return None if result is None else target


def _follow_base(
    base: Tensor, view: Tensor, origin: Origin, was_constant: bool, name: str, recorder: Recorder
) -> None:
    """Updates the places of an overwritten view's base; a base that was constant becomes a term."""
    becomes_term = was_constant and origin_of(base) is None
    if not becomes_term and origin_of(base) is None:
        recorder.origins.follow_base(base, origin.places)
        if origin_of(base) is None:
            return  # no other view shows the new places
    places = places_within(base, view, origin.places)
    recorder.origins.follow(base, places)
    if becomes_term:
        recorder.await_gradient(base, places, _rest_of_base(base, view), name)


def _rest_of_base(base: Tensor, view: Tensor) -> Bias:
    """The bias of a constant whose view was overwritten: the elements outside the view."""
    rest = laid_out_as(base, base.detach())
    same_view_of(view, base, numbers_of(rest)).zero_()
    return Bias(identity, rest)
