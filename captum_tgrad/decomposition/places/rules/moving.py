"""Places after an operation that only moves elements: runs the operation on coordinates."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.places.coordinates import Coordinates
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.gaps import gaps_kept
from captum_tgrad.decomposition.places.movement import (
    Moved,
    as_element,
    places_after,
    without_fill,
)
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.rules.rule import Effect, PlacesRule, places_rule


def rule_of_mover(
    effect: Effect = Effect.MOVES, *, is_cached: bool = True
) -> Callable[[Callable[[Call], Moved]], PlacesRule]:
    """Makes a rule of a function that returns how a call moves elements to all of its results."""
    return lambda mover: PlacesRule(
        lambda call: places_after(*mover(call)) * len(call.returned), effect, is_cached, mover=mover
    )


@places_rule(Effect.MOVES)
def moved(call: Call) -> list[Places]:
    """Places after an operation that moves elements; elements that it fills in have no place."""
    call = without_fill(call)
    tensors = call.tensors

    def run(replaced: list[Tensor]) -> list[Tensor]:
        remaining = iter(replaced)
        return call.run_on(lambda _: next(remaining))

    return places_after(run, tensors)


@places_rule(Effect.MOVES)
def joined(call: Call) -> list[Places]:
    """Places after ``stack`` and similar. Their constant integers are elements, not indices."""
    args, kwargs = map_tensors((call.args, call.kwargs), as_element)
    return moved(Call(call.func, args, kwargs, call.record))


@places_rule(Effect.MOVES)
def reshaped(call: Call) -> list[Places]:
    """Places after a reshape. On cell numbers, which are expanded, only ``reshape`` runs."""
    tensor, (output,) = call.tensors[0], call.returned
    if tensor.numel() != output.numel() or tensor.dtype != output.dtype:
        raise NoRuleError
    old, new = (set(accumulate(reversed(t.shape), mul, initial=1)) for t in (tensor, output))

    def are_channels(coords: Coordinates, part: Coordinates) -> bool:
        """Whether the copies of one element are channels: they do not fit in one output row."""
        if part is coords:
            return False
        copies = math.ceil(len(part.cells) / len(coords.cells))
        run = math.prod(tensor.shape[coords.dims[0] + 1 :])
        block = min(size for size in old & new if size > run)  # of dimensions reshaped together
        row = max(size for size in new if size < block)
        return row not in old and copies * run > row

    def refine(places: Places) -> Places:
        refined = with_copies_refined(places)
        if refined is places:
            return places
        pairs = [
            (axis, coords if are_channels(coords, part) else part)
            for (axis, coords), (_, part) in zip(places.pairs, refined.pairs, strict=True)
        ]
        return make_places(places.shape, pairs)

    return places_after(lambda t: [t[0].reshape(output.shape)], [tensor], refine=refine)


@places_rule(Effect.WRITES)
def assigned(call: Call) -> list[Places]:
    """Places after writing into a tensor; constants get the places of the elements they replace."""
    written, found = places_of(call.args[0]), moved(call)
    if written is None or any(places_of(tensor) for tensor in call.tensors[1:]):
        return found
    return [gaps_kept(each, written) for each in found]


@places_rule(Effect.MOVES)
def concatenated(call: Call) -> list[Places]:
    """Places after ``cat``; constants get the coordinates of the others, except along ``dim``."""
    (output,) = call.returned
    tensors = [as_element(t) for t in call.bound["tensors"] if t.dim() == output.dim()]
    dim = call.bound["dim"] % output.dim()

    def run(indices: list[Tensor]) -> list[Tensor]:
        wide = {d for index in indices for d, stride in enumerate(index.stride()) if stride}
        kept = tuple([slice(None if d in wide | {dim} else 1) for d in range(output.dim())])
        return [torch.cat([index[kept] for index in indices], dim).expand(output.shape)]

    return places_after(run, tensors)


@places_rule(Effect.MOVES)
def halved(call: Call) -> list[Places]:
    """Places after ``glu``: each element has the places of its two factors."""
    tensor, (output,) = call.bound["input"], call.returned
    dim = call.bound["dim"] % tensor.dim()
    halves = places_after(lambda t: t[0].chunk(2, dim), [tensor])
    pairs = [pair for half in halves for pair in half.pairs]
    return [make_places(output.shape, pairs, of_several=True)]
