"""Views of a base tensor: their layout in memory, and their places."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.coordinates import on_cells_of
from captum_tgrad.decomposition.places.movement import Movement, places_after
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places


def laid_out_as(base: Tensor, values: Tensor) -> Tensor:
    """A copy of ``values`` with the strides of ``base``."""
    return values.new_empty_strided(base.shape, base.stride()).copy_(values)


def numbers_of(tensor: Tensor) -> Tensor:
    """The memory of a tensor as real numbers; those of a complex tensor are pairs."""
    tensor = tensor.detach()
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.conj() if tensor.is_conj() else tensor)


def seen_by_view(base: Tensor, view: Tensor, values: Tensor) -> Tensor:
    """One value for each element of a view, from one for each element of its base."""
    whole = laid_out_as(numbers_of(base), _for_numbers(base, values))
    return _of_numbers(view, same_view_of(view, base, whole))


def written_within(base: Tensor, view: Tensor, values: Tensor, written: Tensor) -> Tensor:
    """One value for each element of a base, after those of a view were overwritten."""
    whole = laid_out_as(numbers_of(base), _for_numbers(base, values))
    same_view_of(view, base, whole).copy_(_for_numbers(view, written))
    return _of_numbers(base, whole)


def same_view_of(view: Tensor, base: Tensor, whole: Tensor) -> Tensor:
    """Takes the view of ``whole``, laid out as the numbers of ``base``, that ``view`` is of it."""
    part = numbers_of(view)
    offset = part.storage_offset() - numbers_of(base).storage_offset() + whole.storage_offset()
    return whole.as_strided(part.shape, part.stride(), offset)


def places_within(base: Tensor, view: Tensor, written: Places) -> Places:
    """The places of a base tensor after a view of it was overwritten."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        return [written_within(base, view, *indices)]

    return _places_after(run, base, view, places_of(base), written)


_cache: BoundedCache[Places] = BoundedCache(lambda places: places.numbers)


def _places_after(run: Movement, base: Tensor, view: Tensor, *places: Places | None) -> Places:
    """The places of the only result of ``run``, which takes the base, or the base and the view.

    They are cached by all that says which elements of the base the view has.
    """
    offset = numbers_of(view).storage_offset() - numbers_of(base).storage_offset()
    layouts = [(each.dtype, each.shape, each.stride()) for each in (base, view)]
    tensors = [base, view][: len(places)]
    return _cache.get_or((offset, *layouts, places), lambda: places_after(run, tensors, places)[0])


def places_as_part(base: Tensor, view: Tensor) -> Places | None:
    """The places of a view, numbered by the cells of its base; None if they are unknown.

    ``x[::2]`` then keeps cells of one pixel. Alone, it would count as a subsampled grid, whose
    cells are two pixels wide.
    """
    places, whole = places_of(view), places_of(base)
    if places is None or whole is None:
        return None
    return places.mapped(lambda axis, c: on_cells_of(c, whole.coordinates.get(axis, ())))


def places_of_view(base: Tensor, view: Tensor, places: Places) -> Places:
    """The places of a view of a tensor."""

    def run(indices: list[Tensor]) -> list[Tensor]:
        return [seen_by_view(base, view, *indices)]

    return _places_after(run, base, view, places)


def _for_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """Makes one value for each element of a tensor broadcastable to its numbers."""
    return index.unsqueeze(-1) if tensor.is_complex() else index


def _of_numbers(tensor: Tensor, index: Tensor) -> Tensor:
    """One cell number for each element of a tensor; 0, for no cell, only if both parts have it."""
    return index.amax(-1) if tensor.is_complex() else index
