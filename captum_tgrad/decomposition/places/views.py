"""Views of a base tensor: their layout in memory, and their places."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.coordinates import on_cells_of
from captum_tgrad.decomposition.places.moving_places import places_after
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, places


def laid_out_as(base: Tensor, values: Tensor) -> Tensor:
    """A copy of ``values`` with the strides of ``base``."""
    return values.new_empty_strided(base.shape, base.stride()).copy_(values)


def numbers_of(tensor: Tensor) -> Tensor:
    """The memory of a tensor as real numbers; those of a complex tensor are pairs."""
    tensor = tensor.detach()
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.conj() if tensor.is_conj() else tensor)


def same_view_of(view: Tensor, base: Tensor, whole: Tensor) -> Tensor:
    """Takes the view of ``whole``, laid out as the numbers of ``base``, that ``view`` is of it."""
    part = numbers_of(view)
    offset = part.storage_offset() - numbers_of(base).storage_offset() + whole.storage_offset()
    return whole.as_strided(part.shape, part.stride(), offset)


def places_within(base: Tensor, view: Tensor, written: Places) -> Places:
    """The places of a base tensor after a view of it was overwritten."""
    given = places_of(base)
    key = (_layout(base, view), given, written)
    return _cache.get_or(key, lambda: _places_within(base, view, given, written))


_cache: BoundedCache[Places] = BoundedCache(lambda given: given.numbers)


def _layout(base: Tensor, view: Tensor) -> object:
    """All that says which elements of a base tensor a view of it has."""
    offset = numbers_of(view).storage_offset() - numbers_of(base).storage_offset()
    return (offset, *[(each.dtype, each.shape, each.stride()) for each in (base, view)])


def _places_within(base: Tensor, view: Tensor, given: Places | None, written: Places) -> Places:
    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = laid_out_as(numbers_of(base), _for_numbers(base, indices[0]))
        same_view_of(view, base, whole).copy_(_for_numbers(view, indices[1]))
        return [_of_numbers(base, whole)]

    return places_after(run, [base, view], [given, written])[0]


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
    key = (_layout(base, view), given)
    return _cache.get_or(key, lambda: _places_of_view(base, view, given))


def _places_of_view(base: Tensor, view: Tensor, given: Places) -> Places:
    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = laid_out_as(numbers_of(base), _for_numbers(base, indices[0]))
        return [_of_numbers(view, same_view_of(view, base, whole))]

    return places_after(run, [base], [given])[0]


def _for_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """Makes one value for each element of a tensor broadcastable to its numbers."""
    return index.unsqueeze(-1) if tensor.is_complex() else index


def _of_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """One cell number for each element of a tensor; 0, for no cell, only if both parts have it."""
    return index.amax(-1) if tensor.is_complex() else index
