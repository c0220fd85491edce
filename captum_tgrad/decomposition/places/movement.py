"""Runs operations that move elements on the coordinates of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.coordinates import (
    Axis,
    Coordinates,
    compacted,
    on_common_cells,
    whole_cell,
)
from captum_tgrad.decomposition.places.copies import copies_kept, with_copies_refined
from captum_tgrad.decomposition.places.gaps import gaps_filled, gaps_kept
from captum_tgrad.decomposition.places.merging import dims_within_sample
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Pair, Places, make_places
from captum_tgrad.decomposition.places.whole_grid import windows_joined, windows_kept

Movement = Callable[[list[Tensor]], Sequence[Tensor]]
"""Moves the elements of tensors, and returns the results."""
Moved = tuple[Movement, Sequence[Tensor]]
"""How elements are moved, and the tensors that they are moved from."""
_Arguments = Sequence[Places | None]
"""The places of each argument; None for a constant."""


def without_fill(call: Call) -> Call:
    """The call with the numbers that it fills in replaced by 0, the index of no cell."""
    if not (filled := {key: _emptied(value) for key, value in call.filled.items()}):
        return call
    args = tuple(filled.get(position, arg) for position, arg in enumerate(call.args))
    kwargs = {name: filled.get(name, value) for name, value in call.kwargs.items()}
    return Call(call.func, args, kwargs, call.record)


def _emptied(filled: Any) -> Any:
    if isinstance(filled, Tensor):
        return as_element(filled)
    return 0.0 if isinstance(filled, (int, float)) else filled


def as_element(tensor: Tensor) -> Tensor:
    """A constant as floats, so that its integers count as elements and not as indices."""
    return tensor if tensor.requires_grad or tensor.is_complex() else tensor.float()


@torch.no_grad()
def places_after(
    run: Movement,
    tensors: Sequence[Tensor],
    places: _Arguments | None = None,
    refine: Callable[[Places], Places] = with_copies_refined,
    fill: bool = True,
) -> list[Places]:
    """The places of the results of ``run``.

    It runs on up to four variants of the coordinates: copies whole and refined, and gaps of one
    tensor as they are and filled, or windows of several whole and joined. :func:`copies_kept`,
    :func:`gaps_kept` and :func:`windows_kept` choose the ones that later operations need.

    Args:
        run: Takes tensors shaped like ``tensors``, moves their elements, and returns the results.
        tensors: The original arguments. ``run`` gets cell numbers instead of their values, except
            for constant integers and booleans, which may be indices or masks.
        places: The places of the tensors, None for a constant; by default their own.
        refine: Returns the places with copies refined.
        fill: Whether constants may get the cells of the pixels that they replace.
    """
    if places is None:
        places = [places_of(tensor) for tensor in tensors]

    after = partial(_places_after, run, tensors)
    after = partial(_of_both, after, refine, copies_kept)
    if sum(each is not None for each in places) > 1:
        after = partial(_of_both, after, windows_joined, windows_kept)
    elif fill:
        after = partial(_of_both, after, gaps_filled, gaps_kept)
    return after(places)


def _of_both(
    after: Callable[[_Arguments], list[Places]],
    adapt: Callable[[Places], Places],
    choose: Callable[[Places, Places], Places],
    places: _Arguments,
) -> list[Places]:
    """What ``choose`` returns for the places of each result, without and with ``adapt`` before."""
    adapted = [each and adapt(each) for each in places]
    found = after(places)
    return found if adapted == list(places) else list(map(choose, found, after(adapted)))


def _places_after(run: Movement, tensors: Sequence[Tensor], places: _Arguments) -> list[Places]:
    axes = list(dict.fromkeys(axis for each in places if each for axis in each.coordinates))
    found: list[list[Pair]] = []  # [axis and coordinates][result]
    for axis in axes:
        own = [each.coordinates.get(axis, ()) if each else () for each in places]
        for slot in range(max(map(len, own))):
            chosen = [
                coordinates[min(slot, len(coordinates) - 1)] if coordinates else None
                for coordinates in own
            ]
            chosen = _with_whole_axis(axis, chosen, places)
            shapes, coordinates = _run_on_coordinates(run, chosen, tensors)
            found.append([(axis, coords) for coords in coordinates])
    if not axes:
        return [make_places(each.shape) for each in run([as_numbers(t, None) for t in tensors])]
    return [make_places(*each) for each in zip(shapes, zip(*found, strict=True), strict=True)]


def _with_whole_axis(
    axis: Axis, chosen: list[Coordinates | None], places: _Arguments
) -> list[Coordinates | None]:
    """Gives tensors that depend on a whole axis a cell of it, if the others are at one position.

    In ``torch.cat([h.mean(1), h[:, -1]], 1)``, the means would otherwise be at the last token.
    Beside tensors at all positions, means have no place, as a gate has none.
    """
    if not axis.is_spatial or axis.extent == 1 or None not in chosen:
        return chosen
    found = list(chosen)
    for number, (coords, each) in enumerate(zip(chosen, places, strict=True)):
        if each is None:
            continue
        if coords is None and axis.input in each.inputs:
            found[number] = whole_cell(len(each.shape), axis)
        if coords is not None and dims_within_sample(coords, each.sample):
            return chosen
    return found


def _run_on_coordinates(
    run: Movement, chosen: list[Coordinates | None], tensors: Sequence[Tensor]
) -> tuple[list[torch.Size], list[Coordinates | None]]:
    """Runs ``run`` on coordinates of each tensor; returns the results' shapes and coordinates."""
    distinct = list(dict.fromkeys(coords for coords in chosen if coords is not None))
    cells, indices = on_common_cells(distinct)
    index_of = dict(zip(distinct, indices, strict=True))
    replaced = [
        as_numbers(tensor, None if coords is None else index_of[coords])
        for tensor, coords in zip(tensors, chosen, strict=True)
    ]
    results = run(replaced)
    return [each.shape for each in results], [compacted(each, cells) for each in results]


def as_numbers(tensor: Tensor, index: Tensor | None) -> Tensor:
    """A tensor's substitute for ``run``: cell numbers of its elements; 0 for constant floats."""
    if index is not None:
        return index.float().expand(tensor.shape)
    if tensor.is_floating_point() or tensor.is_complex():
        return torch.zeros((), dtype=torch.float, device="cpu").expand(tensor.shape)
    return tensor.detach().cpu()
