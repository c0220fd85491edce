"""Places after an operation that combines tensors element by element."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.coordinates import SAMPLES
from captum_tgrad.decomposition.places.moving_places import moved
from captum_tgrad.decomposition.places.origin import claims_of, places_of
from captum_tgrad.decomposition.places.places import Places, places


def elementwise(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after an elementwise operation on tensors that broadcast."""
    rank = outputs[0].dim()
    if any(tensor.dim() > rank for tensor in call.tensors):
        raise NoRuleError
    claims = (pair for tensor in call.tensors for pair in claims_of(tensor))
    aligned = ((axis, claim.aligned(rank)) for axis, claim in claims)
    return [places(outputs[0].shape, aligned)] * len(outputs)


def like_first(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """The places of the first tensor."""
    first = call.tensors[0]
    for output in outputs:
        if output.shape != first.shape:
            raise NoRuleError
    return [places_of(first) or places(first.shape)] * len(outputs)


def along(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """The places of the first tensor, without samples if the operation is along their dimension."""
    dim = call.bound["dim"]
    (given, *_) = like_first(call, outputs)
    if dim is None:
        raise NoRuleError
    dim = dim % max(outputs[0].dim(), 1)
    claims = [(a, c) for a, c in given.pairs if a.input != SAMPLES or dim not in c.dims]
    return [places(given.shape, claims)] * len(outputs)


def chosen(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``where``: each element has the places of the alternative that is selected."""
    rank = outputs[0].dim()
    found = {
        frozenset((axis, claim.aligned(rank)) for axis, claim in claims_of(tensor))
        for tensor in call.dependent
    }
    return elementwise(call, outputs) if len(found) == 1 else moved(call, outputs)
