"""Finds the places of a call's results, by the rule of its operation or by test runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, ConstantsRead, NoRuleError
from captum_tgrad.decomposition.nested import PLAIN
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.gaps import gaps_filled
from captum_tgrad.decomposition.places.masks import (
    add_mask,
    mark_elementwise,
    mask_in_sums,
    move_masks,
    places_in_sums,
)
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of, places_of_all
from captum_tgrad.decomposition.places.places import Places, has_places, lost_places, samples_of
from captum_tgrad.decomposition.places.rules.contraction import has_zeros
from captum_tgrad.decomposition.places.rules.fourier import (
    remember_grid,
    transformed,
    transformed_back,
)
from captum_tgrad.decomposition.places.rules.rule import Effect
from captum_tgrad.decomposition.places.trial_runs import FoundPlaces, places_from_trial_runs

_known: BoundedCache[tuple[list[FoundPlaces], ConstantsRead, bool]] = BoundedCache(
    lambda known: sum(places.numbers for places, _ in known[0])
)
"""The places of outputs by call, with ``constants_read`` and ``selects_elements`` of the call."""
_MOVING = (Effect.MOVES, Effect.WRITES)
_MOST_CONTENTS = 2**20
"""A digest of more values takes milliseconds."""


def output_places(call: Call, outputs: Sequence[Tensor], where: Callable[[], str]) -> list[Places]:
    """The places of each differentiable output of a call.

    Args:
        call: The call, with its arguments as they were before it ran.
        outputs: Its differentiable outputs.
        where: Returns the name of the operation, for messages that it loses places.
    """
    rule = call.record.places
    is_transform = rule.find is transformed
    if is_transform and (restored := transformed_back(call)):
        return _with_masks(call, outputs, [restored])
    key = _key(call, rule.effect) if rule.is_cached else None
    known = None if key is None else _known.get(key)
    if known and known[1] == ConstantsRead.NO_ZEROS and any(map(has_zeros, _factors(call))):
        known = None
    by_values = None if key is None or known else _key_of_values(call, key)
    if by_values is not None:
        known = _known.get(by_values)
    nothing = (None, ConstantsRead.NOTHING, False)
    found, call.constants_read, call.selects_elements = known or nothing
    if found is None:
        with torch.no_grad():
            found, by_rule = _found(call)
        if call.constants_read == ConstantsRead.VALUES:
            key = by_values
        # Places that were found by trying also depend on the values of constants.
        if key is not None and (by_rule or not call.constant):
            _known.put(key, (found, call.constants_read, call.selects_elements))
    every = [
        places if complete else _lost(call, output, places, where)
        for (places, complete), output in zip(found, call.returned, strict=True)
        if output.requires_grad
    ]
    if is_transform:
        remember_grid(call, every[0])
    return _with_masks(call, outputs, every)


def _with_masks(call: Call, outputs: Sequence[Tensor], every: list[Places]) -> list[Places]:
    """Masks constants among the elements of results, and gives these the cells that they replace.

    Results that were only moved keep the gaps, because later operations may fill them.
    """
    effect = call.record.places.effect
    if call.selects_elements:
        move_masks(call, _factors(call), always=True)
    elif effect in _MOVING:
        move_masks(call, always=effect == Effect.WRITES)
        return every
    filled = [gaps_filled(places) for places in every]
    if effect == Effect.ELEMENTWISE and len(call.dependent) == 1:
        mark_elementwise(outputs[0])
    if effect in (Effect.ELEMENTWISE, Effect.KEEPS_CONSTANTS):
        for output, places, whole in zip(outputs, every, filled, strict=True):
            if whole is not places:
                add_mask(output, places)
    return filled


def _factors(call: Call) -> list[Tensor]:
    """The constants that may select elements by their zeros."""
    name = call.record.places.added
    added = call.bound[name] if name else None
    return [tensor for tensor in call.constant if tensor is not added]


def _key(call: Call, effect: Effect) -> object | None:
    """A key of everything that the places depend on; None if it would take too long."""
    parts: list[object] = [call.func]
    may_have_indices = effect != Effect.ELEMENTWISE
    try:
        _freeze((call.args, call.kwargs), parts, may_have_indices)
        parts += [output.shape for output in call.returned]
        if may_have_indices and effect not in _MOVING:  # it may leave out masked elements
            parts += [places_in_sums(tensor, range(tensor.dim())) for tensor in call.dependent]
        key = tuple(parts)
        hash(key)
    except (TypeError, RuntimeError):  # an argument that cannot be hashed, or a nested tensor
        return None
    return key


def _key_of_values(call: Call, key: object) -> object | None:
    """A key that includes the values of constants with zeros, which may select elements.

    None if no constant has zeros, if the values are too many, or if other tensors are masked.
    """
    try:
        is_masked = any(mask_in_sums(tensor) is not None for tensor in call.dependent)
        if not is_masked and any(map(has_zeros, call.constant)):
            return key, *[_contents(t) for t in call.tensors if not any(coordinates_of(t))]
    except (TypeError, RuntimeError):  # too many values, or no plain layout
        pass
    return None


def _freeze(values: Any, parts: list[object], may_have_indices: bool) -> None:
    """Appends what identifies arguments.

    For a tensor, these are its places, its contents if it may have indices, or its shape.
    """
    for value in values.items() if isinstance(values, dict) else values:
        kind = type(value)
        if kind in PLAIN:
            parts += (kind, value)  # 1, 1.0 and True are equal
        elif kind is tuple and PLAIN.issuperset(kinds := tuple(map(type, value))):
            parts += (kinds, value)
        elif isinstance(value, Tensor):
            places = places_of(value)
            if places is None and may_have_indices and not _is_inexact(value):
                parts.append(_contents(value))
            parts.append(value.shape if places is None else places)
        elif isinstance(value, (tuple, list, dict)):
            parts += (kind, len(value))
            _freeze(value, parts, may_have_indices)
        elif isinstance(value, slice):
            parts.append(slice)
            _freeze((value.start, value.stop, value.step), parts, may_have_indices)
        else:
            parts += (kind, value)


def _is_inexact(value: Tensor) -> bool:
    return value.is_floating_point() or value.is_complex()


def _contents(constant: Tensor) -> object:
    """What identifies the values of a constant of a known shape.

    Raises:
        TypeError: They are too many.
    """
    values = constant.detach()
    if values.layout == torch.sparse_coo:
        parts = [values._indices(), values._values()]
    else:  # without the copies of an expanded tensor
        parts = [values[tuple([slice(None if stride else 1) for stride in values.stride()])]]
    if sum(part.numel() for part in parts) > _MOST_CONTENTS:
        raise TypeError("too many values")
    # The shapes tell an expanded column from an expanded row.
    contents = [(p.dtype, p.shape, blake2b(p.cpu().numpy().tobytes()).digest()) for p in parts]
    return tuple(contents)


def _found(call: Call) -> tuple[list[FoundPlaces], bool]:
    try:
        found = call.record.places(call)
    except (NoRuleError, RuntimeError, IndexError):  # it may not run on coordinates
        found = []
    if [places.shape for places in found] == [tuple(output.shape) for output in call.returned]:
        return [(places, True) for places in found], True
    return places_from_trial_runs(call), False


def _varies_along(output: Tensor, places: Places) -> int:
    """The number of dimensions along which a sample has several elements: one after pooling."""
    samples = samples_of(places) if places.samples else 1
    along = {dim for coords in places.samples for dim in coords.dims}
    sizes = (size // samples if dim in along else size for dim, size in enumerate(output.shape))
    is_mixed = samples > 1 and not along
    return sum(size > 1 for size in sizes) - is_mixed


def _lost(call: Call, output: Tensor, kept: Places, where: Callable[[], str]) -> Places:
    widest = max(tensor.dim() for tensor in call.dependent)
    spread = _varies_along(output, kept) > 1 or output.dim() >= widest
    had = any(map(has_places, places_of_all(call.dependent)))
    if had and spread and output.dim() > 1:
        return lost_places(output.shape, kept, where())
    return kept
