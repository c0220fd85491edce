"""The places of masked tensors in sums, which their masked elements do not count in.

``(h * mask).sum(1)``, ``h.masked_fill(~mask, 0).sum(1)`` and ``h[:, :length].sum(1)`` have the same
places if the mask keeps the first elements, as the mask of padded sequences does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.origin import origin_of, places_of
from captum_tgrad.decomposition.places.places import Places, places
from captum_tgrad.decomposition.places.views import laid_out_as, same_view_of


def places_in_sums(tensor: Tensor, dims: Iterable[int]) -> Places | None:
    """The places of a tensor without those of masked elements, for a sum along ``dims``.

    None for a constant.
    """
    given, kept = places_of(tensor), mask_in_sums(tensor)
    return given if given is None or kept is None else kept_only(given, kept, dims)


def mask_in_sums(tensor: Tensor) -> Tensor | None:
    """Which elements of a tensor count in sums; None if it is not masked.

    Attention scores, which have the positions of queries and of keys, count as not masked.
    """
    given = places_of(tensor)
    if given is None or any(len(own) > 1 for own in given.claims.values()):
        return None
    return kept_by_mask(tensor)


def kept_only(given: Places, kept: Tensor, dims: Iterable[int]) -> Places:
    """The places of which only some positions along ``dims`` are kept.

    A position is kept if one of its elements is; ``kept`` broadcasts to the shape of the tensor.
    """
    rank = len(given.shape)
    positions = {dim for axis, claim in given.pairs if axis.is_place for dim in claim.dims}
    kept = kept.reshape([1] * (rank - kept.dim()) + list(kept.shape))
    if all(kept.shape[dim] == 1 for dim in positions.intersection(dims)):
        return given  # a mask of channels
    others = [dim for dim in range(rank) if dim not in positions]
    kept = (kept.any(others, keepdim=True) if others else kept).cpu()
    if bool(kept.all()):
        return given
    claims = [
        (axis, claim.moved(claim.index.where(kept, 0)) if axis.is_spatial else claim)
        for axis, claim in given.pairs
    ]
    return places(given.shape, claims)


def kept_by_mask(tensor: Tensor) -> Tensor | None:
    """Where a masked tensor depends on the input: a boolean tensor that broadcasts to its shape.

    None if it is not masked: by autograd's graph, its last operations are no product with a
    constant and fill in no constants.
    """
    base, origin = tensor._base, origin_of(tensor)
    if origin is not None and origin.copied is not None and origin.version == tensor._version:
        return _kept_after(origin.copied)
    if not tensor._is_view() or base is None:
        return _kept_after(tensor.grad_fn)
    kept = kept_by_mask(base)
    if kept is None or base.is_complex() or tensor.is_complex():
        return None
    return same_view_of(tensor, base, laid_out_as(base, kept.expand(base.shape)))


def _kept_after(node: Any) -> Tensor | None:
    """As :func:`kept_by_mask`, for the result of a node of the graph."""
    kept = None
    while node is not None:
        own, node = _kept_by(node)
        kept = _both(kept, own)
    return kept


def _kept_by(node: Any) -> tuple[Tensor | None, Any]:
    """Where the results of a node depend on its argument, and the node of this argument.

    None instead of a node if the masked elements of its argument may depend on the input.
    """
    parents = [parent for parent, _ in node.next_functions]
    dependent = [parent for parent in parents if parent is not None]
    before = dependent[0] if len(dependent) == 1 else None
    kind = node.name()
    if kind == "SoftmaxBackward0":
        return node._saved_result != 0, None  # as after a mask of -inf
    if kind == "MulBackward0":
        one, other = _kept_factor(node._saved_self), _kept_factor(node._saved_other)
        return _both(one, other), before
    if before is None:
        return None, None
    if kind in ("MaskedFillBackward0", "MaskedFillBackward1"):
        return ~node._saved_mask, before
    if kind == "WhereBackward0":
        return ~node._saved_condition if parents[0] is None else node._saved_condition, before
    if kind == "IndexPutBackward0" and not node._saved_accumulate:
        indices = [None if index is None else index.cpu() for index in node._saved_indices]
        every = torch.ones(node._input_metadata[0].shape, dtype=torch.bool, device="cpu")
        return every.index_put(indices, every.new_zeros(())), before
    return None, before if kind in _ELEMENTWISE else None


def _kept_factor(factor: Tensor | None) -> Tensor | None:
    """Where a product with a factor depends on the input: where the factor is not 0.

    None for a factor that depends on the input and is not masked: its zeros are like other values.
    """
    if factor is None or factor.numel() == 1:
        return None
    if not factor.requires_grad:
        return factor != 0
    kept = kept_by_mask(factor)
    return None if kept is None else kept.to(factor.device) | (factor != 0)


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return one if other is None else other
    return one & other.to(one.device)


_ELEMENTWISE = {
    "CloneBackward0", "CopyBackwards", "ToCopyBackward0", "DivBackward0", "NegBackward0",
    "ReluBackward0",
}  # fmt: skip
"""Nodes of other operations whose masked elements do not depend on the input either."""
