"""Places after an operation that only moves elements: runs the operation on coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.places.coordinates import Coordinates
from captum_tgrad.decomposition.places.copies import copies_kept, with_copies_refined
from captum_tgrad.decomposition.places.gaps import gaps_filled, gaps_kept
from captum_tgrad.decomposition.places.movement import as_element, places_after, without_fill
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, make_places


def moved(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after an operation that moves elements; elements that it fills in have no place."""
    call = without_fill(call)
    tensors = call.tensors

    def run(replaced: list[Tensor]) -> list[Tensor]:
        remaining = iter(replaced)
        return call.run_on(lambda _: next(remaining))

    return places_after(run, tensors)


def joined(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``stack`` and similar. Their constant integers are elements, not indices."""
    args, kwargs = map_tensors((call.args, call.kwargs), as_element)
    return moved(Call(call.func, args, kwargs, call.record), outputs)


def reshaped(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after a reshape.

    The index is expanded only along dimensions that are reshaped together with its own.
    """
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

    def after(places: Places) -> Places:
        whole, parts = [], []
        refined = with_copies_refined(places).pairs
        for (axis, coords), (_, part) in zip(places.pairs, refined, strict=True):
            is_finer = part is not coords and not are_channels(coords, part)
            whole.append((axis, move(coords)))
            parts.append((axis, move(part)) if is_finer else whole[-1])
        return copies_kept(make_places(output.shape, whole), make_places(output.shape, parts))

    places = places_of(tensor) or make_places(tensor.shape)
    found, filled = after(places), gaps_filled(places)
    return [found if filled is places else gaps_kept(found, after(filled))]


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
    tensors = [as_element(t) for t in call.bound["tensors"] if t.dim() == output.dim()]
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
    return [make_places(output.shape, found.pairs)]


def halved(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``glu``: each element has the places of its two factors."""
    tensor, (output,) = call.bound["input"], outputs
    dim = call.bound["dim"] % tensor.dim()
    halves = places_after(lambda t: t[0].chunk(2, dim), [tensor])
    return [make_places(output.shape, [pair for half in halves for pair in half.pairs])]
