"""The places of masked tensors in sums, which their masked elements do not count in.

``(h * mask).sum(1)``, ``h.masked_fill(~mask, 0).sum(1)`` and ``h[:, :length].sum(1)`` have the same
places if the mask keeps the first elements, as the mask of padded sequences does.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from captum_tgrad.decomposition.places.masks import kept_by_mask
from captum_tgrad.decomposition.places.merging import dims_within_sample
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, places


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
    Sums over windows ignore masks, as a pooling and a convolution do.
    """
    rank, dims = len(given.shape), frozenset(dims)
    samples = given.samples[0] if len(given.samples) == 1 else None
    for axis, claim in given.pairs:
        own = dims_within_sample(claim, samples) if axis.is_spatial else frozenset()
        if own & dims and own - dims:
            return given
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
