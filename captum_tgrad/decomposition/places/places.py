"""The places of a tensor: the coordinates of its elements on all axes of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from weakref import WeakValueDictionary

from captum_tgrad.decomposition.places.cells import SLACK
from captum_tgrad.decomposition.places.coordinates import (
    INPUTS,
    LOST,
    ONE_CELL,
    SAMPLES,
    Axis,
    Coordinates,
    compacted,
    extended_along,
    hold_one_sample,
    input_axis,
    interned,
    of_each_sample,
    whole_axis,
    whole_cell,
)
from captum_tgrad.decomposition.places.graph_nodes import without_messages
from captum_tgrad.decomposition.places.merging import merged

Pair = tuple[Axis, Coordinates | None]
"""Coordinates of elements, with their axis; None for no coordinates."""


_ONLY_INPUT = frozenset([0])


class Places:
    """The coordinates of a tensor's elements.

    An element may have several coordinates on one axis: an attention score has the positions of its
    query and its key. Its evidence is then divided among them.

    Args:
        shape: The tensor's shape.
        coordinates: The coordinates on each axis; axes without coordinates are left out.

    Attributes:
        has_gaps: Whether some elements have no cell on an axis on which others have one.
        inputs: The numbers of the inputs on which elements depend.
        pairs: All coordinates with their axes; single ones beside several on other axes are
            repeated.
    """

    __slots__ = ("__weakref__", "coordinates", "has_gaps", "inputs", "pairs", "shape")

    def __init__(
        self, shape: tuple[int, ...], coordinates: Mapping[Axis, tuple[Coordinates, ...]]
    ) -> None:
        self.shape = shape
        self.coordinates = coordinates
        several = frozenset([axis.dim for axis in coordinates if axis.input == INPUTS])
        self.inputs = several or _ONLY_INPUT
        most = max((len(own) for axis, own in coordinates.items() if axis.is_spatial), default=1)
        self.pairs = tuple(
            (axis, coords)
            for axis, own in coordinates.items()
            for coords in own * (most if axis.is_spatial and len(own) == 1 else 1)
        )
        self.has_gaps = not all(coords.has_everywhere for _, coords in self.pairs)

    @property
    def numbers(self) -> int:
        """The size of the coordinates in memory, as a number of elements."""
        return sum(coords.index.numel() for _, coords in self.pairs)

    @property
    def samples(self) -> tuple[Coordinates, ...]:
        """The coordinates on the samples."""
        return next((own for axis, own in self.coordinates.items() if axis.input == SAMPLES), ())

    @property
    def sample(self) -> Coordinates | None:
        """The sample of each element; None if elements have several coordinates on the samples."""
        return self.samples[0] if len(self.samples) == 1 else None

    @property
    def knows_samples(self) -> bool:
        """Whether no element depends on several samples."""
        return self.sample is not None and bool(hold_one_sample(self.sample.cells).all())

    def mapped(self, change: Callable[[Axis, Coordinates], Coordinates | None]) -> Places:
        """The places with changed coordinates; the same object if none change."""
        pairs = [(axis, change(axis, coords)) for axis, coords in self.pairs]
        if pairs == list(self.pairs):
            return self
        return make_places(self.shape, pairs)


_interned: WeakValueDictionary[object, Places] = WeakValueDictionary()


def make_places(
    shape: Sequence[int], coordinates: Iterable[Pair] = (), *, of_several: bool = False
) -> Places:
    """Makes the places of a tensor, merges coordinates that agree, and reuses an equal object.

    ``of_several`` says whether an operation combines elements of several tensors with them, as a
    sum does. Otherwise, each element had all of its coordinates before, as if it was moved.
    """
    by_axis: dict[Axis, list[Coordinates]] = {}
    for axis, coords in coordinates:
        if coords is None and axis.is_spatial:
            coords = whole_cell(len(shape), axis)
        by_axis.setdefault(axis, []).extend([] if coords is None else [coords])
    _leave_out_whole(by_axis)
    kept: dict[Axis, list[Coordinates]] = {}
    extended: dict[Axis, list[Coordinates]] = {}
    samples: Coordinates | None = None
    for axis in sorted(by_axis, key=lambda axis: axis.input != SAMPLES):
        own = by_axis[axis]
        if axis.input == SAMPLES:  # some may have the samples that others lack
            own = _merged_on(axis, own)
        extended[axis] = [_extended(each, shape, axis, samples) for each in own]
        if axis.input == SAMPLES and len(each := _merged_on(axis, extended[axis])) == 1:
            (samples,) = each
    if of_several:
        extended |= without_messages(extended, samples)
    for axes in _axes_together(extended):
        of = None if axes[0].input == SAMPLES else samples
        places = zip(*(extended[axis] for axis in axes), strict=True)
        left = merged(places, axes, of, of_several=of_several)
        for number, axis in enumerate(axes):
            kept[axis] = [place[number] for place in left]
    _leave_out_whole(kept)
    found = {
        axis: tuple(own if len(set(own)) > 1 else own[:1]) for axis, own in kept.items() if own
    }
    key = (tuple(shape), tuple(found.items()))
    known = _interned.get(key)
    if known is None:
        known = _interned[key] = Places(tuple(shape), found)
    return known


def _leave_out_whole(by_axis: Mapping[Axis, list[Coordinates]]) -> None:
    """Leaves out whole axes, which are no places.

    One of several places may be on one axis only, as a row of pixels is. On the other, it has the
    whole axis.
    """
    spatial = {axis: own for axis, own in by_axis.items() if axis.is_spatial}
    counts = {(axis.input, len(own)) for axis, own in spatial.items()}
    is_whole = {axis: [_covers(each, axis) for each in own] for axis, own in spatial.items()}
    if len(counts) == 1 and not any(map(all, is_whole.values())):
        left_out = [all(each) for each in zip(*is_whole.values(), strict=True)]
        is_whole = dict.fromkeys(spatial, left_out)
    for axis, own in spatial.items():
        own[:] = [each for each, without in zip(own, is_whole[axis], strict=True) if not without]


def _covers(coords: Coordinates, axis: Axis) -> bool:
    """Whether the only cell is the whole axis, which is no place."""
    if not axis.is_spatial or axis.extent == 1 or len(coords.cells) > 1:
        return False
    return float(coords.cells[0, 1]) > axis.extent - SLACK


def _merged_on(axis: Axis, coordinates: Iterable[Coordinates]) -> list[Coordinates]:
    """The coordinates after :func:`merged`, on one axis."""
    return [coords for (coords,) in merged(((each,) for each in coordinates), [axis])]


def _axes_together(by_axis: Mapping[Axis, Sequence[Coordinates]]) -> list[list[Axis]]:
    """The axes on which several coordinates belong together, and all other axes alone."""
    together: dict[object, list[Axis]] = {}
    for axis, own in by_axis.items():
        is_paired = axis.is_spatial and len(own) > 1
        together.setdefault((axis.input, len(own)) if is_paired else axis, []).append(axis)
    return list(together.values())


def _extended(
    coords: Coordinates, shape: Sequence[int], axis: Axis, samples: Coordinates | None
) -> Coordinates:
    """Applies :func:`extended_along`, but across samples only if all have the same cells.

    Padding of one sample does not get the cells of other samples.
    """
    if axis.input == INPUTS:  # any cell means that the element depends on the input
        return compacted(coords.index > 0, ONE_CELL) or coords
    if axis.input == SAMPLES:
        fit = {dim for dim in coords.dims if shape[dim] == axis.extent > 1}
        if axis.extent > 1 and 0 in coords.dims and shape[0] % axis.extent == 0:
            fit.add(0)  # tokens of all samples, of which an expert may see those of one sample only
        dense = extended_along(coords, set(coords.dims) - fit)
        for dim in sorted(fit, reverse=True):
            # If only one sample has elements, other samples fill up the rest of this dimension.
            if fit & set(dense.dims) - {dim}:
                dense = extended_along(dense, [dim])
        return dense
    of_samples = set(samples.dims) if samples else set[int]()
    others = {dim for dim in coords.dims if not is_at_own_position(coords, dim, axis)}
    dense = extended_along(coords, others - of_samples)
    if samples is None or axis.input < 0:
        return dense
    if not of_samples & set(dense.dims):
        return interned(dense.index, dense.cells, by_sample=False)
    found = of_each_sample(dense, samples)
    if found.by_sample or not samples.has_everywhere:
        return found
    return extended_along(found, of_samples & set(found.dims))


def is_at_own_position(coords: Coordinates, dim: int, axis: Axis) -> bool:
    """Whether the only cell of coordinates is at its own position along a dimension."""
    if len(coords.cells) > 1 or axis.input < 0:
        return False
    size = coords.index.shape[dim]
    has = (coords.index > 0).movedim(dim, 0).reshape(size, -1).any(1)
    position = has.nonzero().flatten()
    middle = (position + 0.5) * axis.extent / size - 0.5
    return bool(((middle - coords.cells[0, 0]).abs() < SLACK).all())


def depending_on(
    places: Places,
    inputs: Iterable[int],
    axes_of_inputs: Sequence[Collection[Axis]] = (),
    *,
    is_part: bool = False,
) -> Places:
    """Marks all elements as depending on ``inputs``, except on inputs for which marks exist.

    Args:
        places: The places. Marks on input axes say which elements depend on an input.
        inputs: The numbers of the inputs on which the tensor depends.
        axes_of_inputs: The axes of each input. Coordinates on the axes of other inputs are left
            out: a part of joined inputs has those of all of them.
        is_part: Whether all elements come from one tensor. If any input has a mark, inputs without
            one belong to elements that were left out.
    """
    axes = [input_axis(number) for number in inputs]
    absent = [axis for axis in axes if axis not in places.coordinates]
    if absent and not (is_part and len(absent) < len(axes)):
        everywhere = [(axis, whole_cell(len(places.shape), axis)) for axis in absent]
        pairs = [*places.pairs, *everywhere]
        places = make_places(places.shape, pairs)
    if not axes_of_inputs:
        return places
    own = {axis for number in places.inputs for axis in axes_of_inputs[number]}
    others = {axis for axes in axes_of_inputs for axis in axes} - own
    if others.isdisjoint(places.coordinates):
        return places
    pairs = [pair for pair in places.pairs if pair[0] not in others]
    return make_places(places.shape, pairs)


@lru_cache(maxsize=64)
def input_places(shape: tuple[int, ...], number: int, channel_dim: int | None = 1) -> Places:
    """The places of an input whose first dimension is the batch.

    Args:
        shape: The input's shape.
        number: The position of the input among the inputs.
        channel_dim: The channel dimension; None if all dimensions are places.
    """
    rank = len(shape)
    channel = None if channel_dim is None or rank < 2 else channel_dim % rank
    axes = [Axis(number, dim, shape[dim], is_place=dim != channel) for dim in range(rank)]
    axes[0] = Axis(SAMPLES, 0, shape[0])
    return make_places(shape, [(axis, whole_axis(shape, axis.dim)) for axis in axes])


def samples_only(places: Places) -> Places:
    """The places of which only the samples are known."""
    pairs = [(axis, coords) for axis, coords in places.pairs if axis.input == SAMPLES]
    return make_places(places.shape, pairs)


def samples_mixed(shape: Sequence[int], sources: Iterable[Places]) -> Places:
    """The places of a tensor that may depend on all samples of the tensors with these places."""
    axes = {axis for each in sources for axis in each.coordinates if axis.input == SAMPLES}
    return make_places(shape, [(axis, whole_cell(len(shape), axis)) for axis in axes])


def samples_of(places: Places) -> int:
    """The batch size."""
    return next(axis.extent for axis in places.coordinates if axis.input == SAMPLES)


def lost_places(shape: Sequence[int], kept: Places, operation: str) -> Places:
    """The places of an output that lost all coordinates except those of ``kept``.

    Its positions become coordinates on ``LOST`` axes. Later operations move these like all others,
    so that later terms know which operation lost their places. If each dimension has coordinates,
    as after a selected column, those along the positions become coordinates on ``LOST`` axes too.
    """
    known = {dim for _, coords in kept.pairs for dim in coords.dims}
    unknown = [dim for dim, size in enumerate(shape) if size > 1 and dim not in known]
    positions = {dim for axis, coords in kept.pairs if axis.is_spatial for dim in coords.dims}
    lost = [
        (Axis(LOST, dim, shape[dim], lost_at=operation), whole_axis(shape, dim))
        for dim in unknown or sorted(positions)
    ]
    return make_places(shape, [*kept.pairs, *lost])


def has_places(places: Places) -> bool:
    """Whether elements have a coordinate on a spatial axis."""
    return any(axis.input != SAMPLES and axis.is_place for axis in places.coordinates)
