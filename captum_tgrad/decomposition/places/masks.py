"""Masks: which elements of a tensor depend on the input, and which are constants.

They are read from autograd's graph: the factors of products, and the masks of ``masked_fill`` and
``torch.where``. Operations that move elements store the moved mask in the metadata of their node.

Masked elements do not count in sums. ``(h * mask).sum(1)``, ``h.masked_fill(~mask, 0).sum(1)`` and
``h[:, :length].sum(1)`` have the same places if the mask keeps the first elements, as the mask of
padded sequences does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.gaps import gaps_filled
from captum_tgrad.decomposition.places.merging import dims_within_sample
from captum_tgrad.decomposition.places.movement import as_numbers, without_fill
from captum_tgrad.decomposition.places.origin import origin_of, places_of
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.places.views import seen_by_view, written_within


def places_in_sums(tensor: Tensor, dims: Iterable[int]) -> Places | None:
    """The places of a tensor without those of masked elements, for a sum along ``dims``.

    None for a constant.
    """
    places, kept = places_of(tensor), mask_in_sums(tensor)
    return places if places is None or kept is None else kept_only(places, kept, dims)


def mask_in_sums(tensor: Tensor) -> Tensor | None:
    """Which elements of a tensor count in sums; None if it is not masked.

    Attention scores, which have the positions of queries and of keys, count as not masked.
    """
    places = places_of(tensor)
    if places is None or any(len(own) > 1 for own in places.coordinates.values()):
        return None
    return kept_by_mask(tensor)


def kept_only(places: Places, kept: Tensor, dims: Iterable[int]) -> Places:
    """The places of which only some positions along ``dims`` are kept.

    ``kept`` broadcasts to the shape of the tensor. Sums over windows ignore masks, as a pooling and
    a convolution do.
    """
    positions = positions_kept(places, kept, dims)
    if positions is None:
        return places
    return places.mapped(
        lambda axis, c: c.moved(c.index.where(positions, 0)) if axis.is_spatial else c
    )


def positions_kept(places: Places, kept: Tensor, dims: Iterable[int]) -> Tensor | None:
    """Which positions are kept for a sum along ``dims``: those of which one element is.

    None if all are.
    """
    rank, dims = len(places.shape), frozenset(dims)
    for axis, coords in places.pairs:
        own = dims_within_sample(coords, places.sample) if axis.is_spatial else frozenset()
        if own & dims and own - dims:
            return None
    positions = {dim for axis, coords in places.pairs if axis.is_place for dim in coords.dims}
    kept = kept.reshape([1] * (rank - kept.dim()) + list(kept.shape))
    if all(kept.shape[dim] == 1 for dim in positions.intersection(dims)):
        return None  # a mask of channels
    others = [dim for dim in range(rank) if dim not in positions]
    kept = (kept.any(others, keepdim=True) if others else kept).cpu()
    return None if bool(kept.all()) else kept


def kept_by_mask(tensor: Tensor) -> Tensor | None:
    """Where a masked tensor depends on the input: a boolean tensor that broadcasts to its shape.

    None if it is not masked: by autograd's graph, its last operations are no product with a
    constant, fill in no constants, and move no masked elements.
    """
    base, source = tensor._base, (tensor.grad_fn, tensor.output_nr)
    if not tensor._is_view() or base is None or _stored_mask(*source) is not None:
        return _kept_after(*source)
    kept = kept_by_mask(base)
    return None if kept is None else seen_by_view(base, tensor, kept.expand(base.shape))


def _kept_after(node: Any, number: int) -> Tensor | None:
    """As :func:`kept_by_mask`, for a result of a node of the graph."""
    kept = None
    while node is not None:
        mask = _stored_mask(node, number)
        if mask is not None:
            return _both(kept, mask)
        own, (node, number) = _kept_by(node)
        kept = _both(kept, own)
    return kept


def _stored_mask(node: Any, number: int) -> Tensor | None:
    """The mask that :func:`set_mask` has stored for a result of a node."""
    masks: dict[int, Tensor] = {} if node is None else node.metadata.get(_MASKS, {})
    return masks.get(number)


_Source = tuple[Any, int]
"""A node of autograd's graph, and the number of one of its results."""


def _kept_by(node: Any) -> tuple[Tensor | None, _Source]:
    """Where the results of a node depend on its argument, and the source of this argument.

    There is no source if masked elements of the argument do not stay masked.
    """
    kind, parents = type(node).__name__, node.next_functions
    dependent = [source for source in parents if source[0] is not None]
    before = dependent[0] if len(dependent) == 1 else _NO_SOURCE
    if kind == "SoftmaxBackward0":
        return node._saved_result != 0, _NO_SOURCE  # as after a mask of -inf
    if kind == "MulBackward0":
        one, other = _kept_factor(node._saved_self), _kept_factor(node._saved_other)
        return _both(one, other), before
    if before is _NO_SOURCE:
        return None, _NO_SOURCE
    if kind in ("MaskedFillBackward0", "MaskedFillBackward1"):
        return ~node._saved_mask, before
    if kind == "WhereBackward0":
        shows_second = parents[0][0] is None
        return ~node._saved_condition if shows_second else node._saved_condition, before
    passes_on = kind == "CopyBackwards" or _ELEMENTWISE in node.metadata
    return None, before if passes_on else _NO_SOURCE


_NO_SOURCE: _Source = (None, 0)


def _kept_factor(factor: Tensor | None) -> Tensor | None:
    """Where a product with a factor depends on the input: where the factor is not 0.

    None for a factor that depends on the input and is not masked: its zeros are like other values.
    """
    if factor is None or factor.numel() == 1:
        return None
    if not factor.requires_grad:
        is_kept = factor != 0
        # As a scale of each channel. On other devices, reading this would take longer.
        return None if is_kept.is_cpu and bool(is_kept.all()) else is_kept
    kept = kept_by_mask(factor)
    return None if kept is None else kept.to(factor.device) | (factor != 0)


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other.to(one.device)


def mark_elementwise(output: Tensor) -> None:
    """Marks the result of an elementwise operation on one tensor that depends on the input.

    Its masked elements do not depend on the input either.
    """
    node: Any = output.grad_fn
    if node is not None:
        node.metadata[_ELEMENTWISE] = True


def move_masks(call: Call, factors: Sequence[Tensor] = (), *, always: bool = False) -> None:
    """Moves the masks of a call's arguments as the call moves their elements.

    Args:
        call: A call that moves elements, or adds elements that the zeros of constants select.
        factors: These constants.
        always: Whether its results are masked also if its arguments are not, because it leaves out
            or overwrites elements.
    """
    masks = {id(tensor): _mask_of(tensor) for tensor in call.dependent}
    if not always and all(mask is None for mask in masks.values()):
        return

    def shown(tensor: Tensor) -> Tensor:
        mask = masks.get(id(tensor))
        if any(tensor is factor for factor in factors):
            mask = tensor.detach() != 0
        elif mask is None and id(tensor) in masks:
            mask = torch.ones((), device="cpu")
        return as_numbers(tensor, None if mask is None else mask.cpu())

    mover = call.record.places.mover
    try:
        if mover is None:
            moved: Sequence[Tensor] = without_fill(call).run_on(shown)
        else:
            run, tensors = mover(call)
            moved = list(run(list(map(shown, tensors)))) * len(call.returned)
    except (NoRuleError, RuntimeError, IndexError):  # it may not run on masks
        return
    for output, mask in zip(call.returned, moved, strict=True):
        set_mask(output, mask != 0)


def mask_base(base: Tensor, mask: Tensor | None, view: Tensor, kept: Tensor | None) -> None:
    """Masks a base tensor, which had a mask, after a tensor with another one was copied to a view.

    ``kept`` is the mask of that tensor.
    """
    if mask is None and kept is None:
        return
    everywhere = torch.ones((), dtype=torch.bool, device=base.device)
    whole = (everywhere if mask is None else mask).expand(base.shape)
    written = (everywhere if kept is None else kept).expand(view.shape)
    set_mask(base, written_within(base, view, whole, written))


def _mask_of(tensor: Tensor) -> Tensor | None:
    """The mask of a tensor, or where it has cells if constants among its elements have none.

    If the call has already overwritten the tensor, it is that of its old values.
    """
    origin, places = origin_of(tensor), places_of(tensor)
    if origin is not None and origin.version != tensor._version and tensor.grad_fn is not None:
        mask = _kept_after(*tensor.grad_fn.next_functions[0])
    else:
        mask = kept_by_mask(tensor)
    if mask is not None and bool(mask.all()):
        mask = None  # as in a batch without padding
    if mask is None and places is not None and gaps_filled(places) is not places:
        mask = _has_cells(places)
    return mask


def _has_cells(places: Places) -> Tensor:
    """Whether each element has a cell on all axes on which elements have cells."""
    has = (coords.index > 0 for axis, coords in places.pairs if axis.is_spatial)
    everywhere = torch.ones([1] * len(places.shape), dtype=torch.bool, device="cpu")
    return reduce(torch.logical_and, has, everywhere)


def add_mask(output: Tensor, places: Places) -> None:
    """Masks the elements of a result that have no cell of their own."""
    mask, known = _has_cells(places), kept_by_mask(output)
    if known is not None:
        mask = mask & known.cpu()
    set_mask(output, mask.expand(places.shape))


def set_mask(output: Tensor, mask: Tensor) -> None:
    """Stores the mask of a tensor on its node."""
    node: Any = output.grad_fn
    if node is not None:
        node.metadata.setdefault(_MASKS, {})[output.output_nr] = mask


_ELEMENTWISE = "captum_tgrad elementwise"
_MASKS = "captum_tgrad masks"
"""Keys in the metadata of a node of autograd's graph; masks are by the number of the result."""
