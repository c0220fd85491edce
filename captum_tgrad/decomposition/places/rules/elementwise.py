"""Places after an operation that combines tensors element by element."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Coordinates
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of, places_of_all
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.rules.moving import moved
from captum_tgrad.decomposition.places.rules.rule import Effect, places_rule
from captum_tgrad.decomposition.places.sums import mixed


@places_rule(Effect.ELEMENTWISE)
def elementwise(call: Call) -> list[Places]:
    """Places after an elementwise operation on tensors that broadcast."""
    rank = call.returned[0].dim()
    if any(tensor.dim() > rank for tensor in call.tensors):
        raise NoRuleError
    every = places_of_all(call.tensors)

    def combined(operands: Sequence[Places]) -> Places:
        pairs = (pair for places in operands for pair in places.pairs)
        return make_places(
            call.returned[0].shape,
            ((axis, coords.aligned(rank)) for axis, coords in pairs),
            of_several=len({places.pairs for places in operands}) > 1,
        )

    found = combined(every)
    if len(every) > 1:
        # Copies are a finer grid if another tensor tells them apart, as after an enlargement.
        refined = list(map(with_copies_refined, every))
        if refined != every and with_copies_refined(found) is found:
            found = combined(refined)
    return [found] * len(call.returned)


@places_rule(Effect.ELEMENTWISE, is_cached=False)
def like_first(call: Call) -> list[Places]:
    """The places of the first tensor, which do not count if a result has another shape."""
    places = places_of(call.tensors[0])
    if places is None:
        raise NoRuleError
    return [places] * len(call.returned)


@places_rule(Effect.MOVES, is_cached=False, mover=lambda call: (lambda t: t, call.tensors[:1]))
def unchanged(call: Call) -> list[Places]:
    """As :func:`like_first`, for operations that do not change the elements."""
    return like_first(call)


def along(call: Call) -> list[Places]:
    """The places of the first tensor; samples along the dimension of the operation are mixed."""
    dim = call.bound["dim"]
    dims = (dim,) if isinstance(dim, int) else dim
    if not dims:
        raise NoRuleError
    (places, *_) = like_first(call)
    rank = max(len(places.shape), 1)
    return [samples_mixed_along(places, {each % rank for each in dims})] * len(call.returned)


def normalized(call: Call) -> list[Places]:
    """The places of the first tensor; samples that are normalized together are mixed."""
    (places, *_) = like_first(call)
    rank = len(places.shape)
    if call.name in ("layer_norm", "rms_norm"):
        dims = range(rank - len(call.bound["normalized_shape"]), rank)
    elif call.name == "local_response_norm":
        dims = range(1, 2)
    else:
        groups = call.bound["num_groups"] if call.name == "group_norm" else places.shape[1]
        dims = range(1 if _vary_within(groups, places.samples) else 2, rank)
    return [samples_mixed_along(places, dims)] * len(call.returned)


def _vary_within(groups: int, coordinates: Iterable[Coordinates]) -> bool:
    """Whether the cells of elements change along dimension 1 within groups of equal size."""
    changing = (coords.index for coords in coordinates if coords.index.shape[1] != 1)
    split = (index.reshape(len(index), groups, -1, *index.shape[2:]) for index in changing)
    return any(bool((each != each[:, :, :1]).any()) for each in split)


def samples_mixed_along(places: Places, dims: Iterable[int]) -> Places:
    """The places of new elements that depend on all samples along ``dims``, but have own places."""
    dims = list(dims)
    coordinates = [
        (axis, part)
        for axis, coords in places.pairs
        for part in (mixed(coords, dims, axis) if axis.input == SAMPLES else [coords])
    ]
    return make_places(places.shape, coordinates)


@places_rule(Effect.KEEPS_CONSTANTS)
def chosen(call: Call) -> list[Places]:
    """Places after ``where``: each element has the places of the alternative that is selected."""
    rank = call.returned[0].dim()
    found = {
        frozenset((axis, coords.aligned(rank)) for axis, coords in coordinates_of(tensor))
        for tensor in call.dependent
    }
    return elementwise(call) if len(found) == 1 else moved(call)
