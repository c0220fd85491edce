"""Places after an operation that only moves elements: runs the operation on coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.places.coordinates import (
    Coordinates,
    compacted,
    on_common_cells,
)
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Pair, Places, places
from captum_tgrad.decomposition.places.whole_grid import (
    constants_filled_in,
    copies_kept,
    gaps_kept,
    with_copies_refined,
)

Movement = Callable[[list[Tensor]], Sequence[Tensor]]


def moved(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after an operation that moves elements; elements that it fills in have no place."""
    call = without_fill(call)
    tensors = call.tensors

    def run(replaced: list[Tensor]) -> list[Tensor]:
        remaining = iter(replaced)
        return call.run_on(lambda _: next(remaining))

    return places_after(run, tensors)


def without_fill(call: Call) -> Call:
    """The call with the numbers that it fills in replaced by 0, the index of no cell."""
    if not call.record.fill and "value" not in call.kwargs:
        return call
    args = tuple(
        _emptied(arg) if position in call.record.fill else arg
        for position, arg in enumerate(call.args)
    )
    kwargs = {**call.kwargs, "value": 0.0} if "value" in call.kwargs else call.kwargs
    return Call(call.func, args, kwargs, call.record)


def _emptied(filled: Any) -> Any:
    if isinstance(filled, Tensor):
        return _as_element(filled)
    return 0.0 if isinstance(filled, (int, float)) else filled


def joined(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``stack`` and similar. Their constant integers are elements, not indices."""
    args, kwargs = map_tensors((call.args, call.kwargs), _as_element)
    return moved(Call(call.func, args, kwargs, call.record), outputs)


def _as_element(tensor: Tensor) -> Tensor:
    return tensor if tensor.requires_grad or tensor.is_complex() else tensor.float()


@torch.no_grad()
def places_after(
    run: Movement, tensors: Sequence[Tensor], given: Sequence[Places | None] | None = None
) -> list[Places]:
    """The places of the results of ``run``.

    Args:
        run: Takes tensors shaped like ``tensors``, moves their elements, and returns the results.
        tensors: The original arguments. ``run`` gets cell numbers instead of their values, except
            for constant integers and booleans, which may be indices or masks.
        given: The places of the tensors, None for a constant; by default their own.
    """
    if given is None:
        given = [places_of(tensor) for tensor in tensors]
    found = _with_copies(run, tensors, given)
    filled = [each and constants_filled_in(each) for each in given]
    if filled == list(given) or sum(each is not None for each in given) > 1:
        return found
    return list(map(gaps_kept, found, _with_copies(run, tensors, filled)))


def _with_copies(
    run: Movement, tensors: Sequence[Tensor], given: Sequence[Places | None]
) -> list[Places]:
    """As :func:`places_after`, for elements with or without gaps."""
    refined = [each and with_copies_refined(each) for each in given]
    found = _places_after(run, tensors, refined)
    if refined == list(given):
        return found
    return list(map(copies_kept, _places_after(run, tensors, given), found))


def _places_after(
    run: Movement, tensors: Sequence[Tensor], given: Sequence[Places | None]
) -> list[Places]:
    axes = list(dict.fromkeys(axis for each in given if each for axis in each.coordinates))
    found: list[list[Pair]] = []  # [axis and coordinates][result]
    for axis in axes:
        own = [each.coordinates.get(axis, ()) if each else () for each in given]
        for slot in range(max(map(len, own))):
            chosen = [
                coordinates[min(slot, len(coordinates) - 1)] if coordinates else None
                for coordinates in own
            ]
            shapes, coordinates = _run_on_coordinates(run, chosen, tensors)
            found.append([(axis, coords) for coords in coordinates])
    if not axes:
        return [places(each.shape) for each in run([as_numbers(t, None) for t in tensors])]
    return [places(*each) for each in zip(shapes, zip(*found, strict=True), strict=True)]


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


def reshaped(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after a reshape; coordinates expand only along dimensions reshaped with theirs."""
    tensor, (output,) = call.tensors[0], outputs
    if tensor.numel() != output.numel() or tensor.dtype != output.dtype:
        raise NoRuleError
    groups = _groups(list(tensor.shape), list(output.shape))

    def move(coords: Coordinates) -> Coordinates | None:
        expanded, shape = list(coords.index.shape), [1] * output.dim()
        for old, new in groups:
            if any(dim in coords.dims for dim in old):
                for dim in old:
                    expanded[dim] = tensor.shape[dim]
                for dim in new:
                    shape[dim] = output.shape[dim]
        return coords.moved(coords.index.expand(expanded).reshape(shape))

    def are_channels(coords: Coordinates, part: Coordinates) -> bool:
        """Whether the copies of one element are channels: they do not fit in one output row."""
        copies = math.ceil(len(part.cells) / len(coords.cells))
        ((old, new),) = [group for group in groups if coords.dims[0] in group[0]]
        run = copies * math.prod(tensor.shape[dim] for dim in old if dim > coords.dims[0])
        _, *row = [output.shape[dim] for dim in new if output.shape[dim] != 1]
        return bool(row) and run > math.prod(row)

    def after(given: Places) -> Places:
        whole, parts = [], []
        refined = with_copies_refined(given).pairs
        for (axis, coords), (_, part) in zip(given.pairs, refined, strict=True):
            is_finer = part is not coords and not are_channels(coords, part)
            whole.append((axis, move(coords)))
            parts.append((axis, move(part)) if is_finer else whole[-1])
        return copies_kept(places(output.shape, whole), places(output.shape, parts))

    given = places_of(tensor) or places(tensor.shape)
    found, filled = after(given), constants_filled_in(given)
    return [found if filled is given else gaps_kept(found, after(filled))]


def _groups(old: list[int], new: list[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of old and new dimensions of equal size: (6, 4) to (2, 3, 4) has two."""
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        group: tuple[list[int], list[int]] = ([], [])
        held = wanted = 1
        while True:
            if i < len(old) and (held <= wanted or j == len(new)):
                group[0].append(i)
                held, i = held * old[i], i + 1
            elif j < len(new):
                group[1].append(j)
                wanted, j = wanted * new[j], j + 1
            else:
                break
            if held == wanted and group[0] and group[1]:
                break
        groups.append(group)
    return groups


def assigned(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after writing into a tensor; constants get the places of the elements they replace."""
    written, found = places_of(call.args[0]), moved(call, outputs)
    if written is None or any(places_of(tensor) for tensor in call.tensors[1:]):
        return found
    return [gaps_kept(each, written) for each in found]


def concatenated(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``cat``; constants get the coordinates of the others, except along ``dim``."""
    (output,) = outputs
    tensors = [_as_element(t) for t in call.bound["tensors"] if t.dim() == output.dim()]
    dim = call.bound["dim"] % output.dim()

    def run(indices: list[Tensor]) -> list[Tensor]:
        kept = [
            max(index.shape[d] if index.stride(d) else 1 for index in indices)
            for d in range(output.dim())
        ]
        narrow = []
        for index in indices:
            for d, size in enumerate(kept):
                if d != dim and size == 1:
                    index = index.narrow(d, 0, 1)
            narrow.append(index)
        return [torch.cat(narrow, dim)]

    (found,) = places_after(run, tensors)
    return [places(output.shape, found.pairs)]


def halved(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``glu``: each element has the places of its two factors."""
    tensor, (output,) = call.bound["input"], outputs
    dim = call.bound["dim"] % tensor.dim()
    halves = places_after(lambda t: t[0].chunk(2, dim), [tensor])
    return [places(output.shape, [pair for half in halves for pair in half.pairs])]
