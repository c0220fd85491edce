"""The places of a tensor: the coordinates of its elements on all axes of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, evenly_wide
from captum_tgrad.decomposition.places.coordinates import (
    INPUTS,
    LOST,
    SAMPLES,
    Axis,
    Coordinates,
    coordinates,
    from_borders,
    input_axis,
    interned,
    of_each_sample,
    whole_axis,
    without_gaps,
)
from captum_tgrad.decomposition.places.windows import narrowed

Claim = tuple[Axis, Coordinates | None]
"""Coordinates of elements, with their axis; None for no coordinates."""

MOST_CLAIMS = 4
"""An element with more claims on one axis has no place on it."""

_ONLY_INPUT = frozenset([0])

_ONE_CELL = torch.tensor([[0.0, 1.0]], dtype=torch.float64, device="cpu")


class Places:
    """The coordinates of a tensor's elements.

    An element may have several claims on one axis: an attention score has the positions of its
    query and its key. Its evidence is then divided among them.

    Args:
        shape: The tensor's shape.
        claims: The claims on each axis; axes without claims are left out.

    Attributes:
        has_channels: Whether elements have coordinates on a channel axis of an input.
        inputs: The numbers of the inputs on which elements depend.
        pairs: All claims, each with its axis; one claim beside several on other axes is repeated.
    """

    __slots__ = ("__weakref__", "claims", "has_channels", "inputs", "pairs", "shape")

    def __init__(
        self, shape: tuple[int, ...], claims: Mapping[Axis, tuple[Coordinates, ...]]
    ) -> None:
        self.shape = shape
        self.claims = claims
        self.has_channels = any(
            axis.input >= 0 and not axis.is_place and axis.extent != 1 for axis in claims
        )
        several = frozenset([axis.dim for axis in claims if axis.input == INPUTS])
        self.inputs = several or _ONLY_INPUT
        most = max((len(own) for axis, own in claims.items() if axis.is_spatial), default=1)
        self.pairs = tuple(
            (axis, claim)
            for axis, own in claims.items()
            for claim in own * (most if axis.is_spatial and len(own) == 1 else 1)
        )

    @property
    def samples(self) -> tuple[Coordinates, ...]:
        """The claims on the samples."""
        return next((own for axis, own in self.claims.items() if axis.input == SAMPLES), ())

    @property
    def has_one_axis(self) -> bool:
        """Whether elements have coordinates on one spatial axis only."""
        return sum(axis.is_spatial for axis in self.claims) == 1


_interned: WeakValueDictionary[object, Places] = WeakValueDictionary()


def places(shape: Sequence[int], claims: Iterable[Claim] = ()) -> Places:
    """Makes the places of a tensor, merges claims that agree, and reuses an equal object."""
    by_axis: dict[Axis, list[Coordinates]] = {}
    for axis, claim in claims:
        given = by_axis.setdefault(axis, [])
        if claim is not None:
            given.append(claim)
    kept: dict[Axis, tuple[Coordinates, ...]] = {}
    filled: dict[Axis, list[Coordinates]] = {}
    samples: Coordinates | None = None
    for axis in sorted(by_axis, key=lambda axis: axis.input != SAMPLES):
        own = [_gaps_filled(claim, shape, axis, samples) for claim in _joined(by_axis[axis], axis)]
        filled[axis] = own
        if left := merged(own, axis, samples):
            kept[axis] = left
            if axis.input == SAMPLES and len(left) == 1:
                (samples,) = left
    kept |= _pairs_kept(kept, filled)
    key = (tuple(shape), tuple(kept.items()))
    known = _interned.get(key)
    if known is None:
        known = _interned[key] = Places(tuple(shape), kept)
    return known


def _pairs_kept(
    kept: Mapping[Axis, tuple[Coordinates, ...]], given: Mapping[Axis, list[Coordinates]]
) -> dict[Axis, tuple[Coordinates, ...]]:
    """The claims that belong together on several axes, with repetitions, if these are needed.

    A sum of the four quadrants of an image has the rows 0, 0, 4, 4 and the columns 0, 4, 0, 4.
    Without repetitions, 0, 4 and 0, 4 would be two quadrants only.
    """
    several = [axis for axis, claims in kept.items() if axis.is_spatial and len(claims) > 1]
    if len(several) < 2 or len({len(given[axis]) for axis in several}) > 1:
        return {}
    pairs = list(dict.fromkeys(zip(*(given[axis] for axis in several), strict=True)))
    if not max(len(kept[axis]) for axis in several) < len(pairs) <= MOST_CLAIMS:
        return {}
    return dict(zip(several, zip(*pairs, strict=True), strict=True))


def _joined(claims: list[Coordinates], axis: Axis) -> list[Coordinates]:
    """Joins successive claims on disjoint elements, as of concatenated tensors, into one claim."""
    if len(claims) < 2 or axis.input < 0:
        return claims
    joined: list[Coordinates] = []
    for claim in claims:
        last = joined[-1] if joined else None
        if last is None or bool(((last.index > 0) & (claim.index > 0)).any()):
            joined.append(claim)
            continue
        index = torch.where(claim.index > 0, claim.index + len(last.cells), last.index)
        by_sample = last.by_sample or claim.by_sample
        joined[-1] = coordinates(index, torch.cat([last.cells, claim.cells]), by_sample) or claim
    return joined


def _gaps_filled(
    claim: Coordinates, shape: Sequence[int], axis: Axis, samples: Coordinates | None
) -> Coordinates:
    """Applies ``without_gaps``, but across samples only if all of them have the same cells.

    Padding of one sample does not get the cells of other samples.
    """
    if axis.input == INPUTS:  # any cell means that the element depends on the input
        return coordinates(claim.index > 0, _ONE_CELL) or claim
    if axis.input == SAMPLES:
        fit = {dim for dim in claim.dims if shape[dim] == axis.extent > 1}
        dense = without_gaps(claim, set(claim.dims) - fit)
        for dim in sorted(fit, reverse=True):
            # If only one sample has elements, other samples fill up the rest of this dimension.
            if fit & set(dense.dims) - {dim}:
                dense = without_gaps(dense, [dim])
        return dense
    of_samples = set(samples.dims) if samples else set[int]()
    others = {dim for dim in claim.dims if not is_at_own_position(claim, dim, axis)}
    dense = without_gaps(claim, others - of_samples)
    if samples is None or axis.input < 0:
        return dense
    if not of_samples & set(dense.dims):
        return interned(dense.index, dense.cells, by_sample=False)
    found = of_each_sample(dense, samples, axis)
    if found.by_sample or not samples.has_everywhere:
        return found
    return without_gaps(found, of_samples & set(found.dims))


def is_at_own_position(claim: Coordinates, dim: int, axis: Axis) -> bool:
    """Whether the only cell of a claim is at its own position along a dimension."""
    if len(claim.cells) > 1 or axis.input < 0:
        return False
    size = claim.index.shape[dim]
    has = (claim.index > 0).movedim(dim, 0).reshape(size, -1).any(1)
    position = has.nonzero().flatten()
    middle = (position + 0.5) * axis.extent / size - 0.5
    return bool(((middle - claim.cells[0, 0]).abs() < SLACK).all())


def depending_on(given: Places, inputs: Iterable[int], *, is_part: bool = False) -> Places:
    """Marks all elements as depending on ``inputs``, except for inputs that have marks already.

    Args:
        given: The places. Marks on input axes say which elements depend on an input.
        inputs: The numbers of the inputs on which the tensor depends.
        is_part: Whether all elements come from one tensor. If any input has a mark, inputs without
            one belong to elements that were left out.
    """
    axes = [input_axis(number) for number in inputs]
    absent = [axis for axis in axes if axis not in given.claims]
    if not absent or (is_part and len(absent) < len(axes)):
        return given
    everywhere = coordinates(torch.ones([1] * len(given.shape), device="cpu"), _ONE_CELL)
    return places(given.shape, [*given.pairs, *((axis, everywhere) for axis in absent)])


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
    return places(shape, [(axis, whole_axis(shape, axis.dim)) for axis in axes])


def samples_only(given: Places) -> Places:
    """The places of which only the samples are known."""
    pairs = [(axis, claim) for axis, claim in given.pairs if axis.input == SAMPLES]
    return places(given.shape, pairs)


def samples_of(given: Places) -> int:
    """The batch size."""
    return next(axis.extent for axis in given.claims if axis.input == SAMPLES)


def lost_places(shape: Sequence[int], kept: Places, operation: str) -> Places:
    """The places of an output that lost all coordinates except those of ``kept``.

    Its positions become coordinates on ``LOST`` axes. Later operations move these like all others,
    so that later terms know which operation lost their places.
    """
    known = {dim for _, claim in kept.pairs for dim in claim.dims}
    lost = [
        (Axis(LOST, dim, size, lost_at=operation), whole_axis(shape, dim))
        for dim, size in enumerate(shape)
        if size != 1 and dim not in known
    ]
    return places(shape, [*kept.pairs, *lost])


def has_places(given: Places) -> bool:
    """Whether elements have a coordinate on a spatial axis."""
    return any(axis.input != SAMPLES and axis.is_place for axis in given.claims)


def merged(
    claims: Iterable[Coordinates], axis: Axis, samples: Coordinates | None = None
) -> tuple[Coordinates, ...]:
    """Merges claims on one axis that agree; claims that contradict each other are all kept.

    Args:
        claims: The claims.
        axis: The axis of all claims.
        samples: The samples of the elements; None if they are unknown.
    """
    kept: list[Coordinates] = []
    for claim in dict.fromkeys(claims):
        for position, other in enumerate(kept):
            both = _merged_pair(other, claim, axis, samples)
            if both is not None:
                kept[position : position + 1] = both
                break
        else:
            kept.append(claim)
    return tuple(dict.fromkeys(kept))


@torch.no_grad()
def _merged_pair(
    one: Coordinates, other: Coordinates, axis: Axis, samples: Coordinates | None
) -> list[Coordinates] | None:
    """Merges two claims into a list of one; None if they contradict each other.

    The list is empty if both together cover the whole axis, which is no place.
    """
    if one.by_sample or other.by_sample:
        one, other = _without_whole(one, other, axis), _without_whole(other, one, axis)
    if axis.input == INPUTS:
        # Marks along queries and along keys stay separate: merged, they would fill a matrix.
        depends = (one.index > 0) | (other.index > 0)
        if depends.shape not in (one.index.shape, other.index.shape):
            return None
        return [coordinates(depends, _ONE_CELL) or one]
    dims, other_dims = (_dims_within_sample(claim, samples) for claim in (one, other))
    if one is other or dims < other_dims:
        return [other]
    if other_dims < dims:
        return [one]
    if dims != other_dims:
        return None
    low, high = one.borders()
    other_low, other_high = other.borders()
    hull_low, hull_high = torch.minimum(low, other_low), torch.maximum(high, other_high)
    both = (one.index > 0) & (other.index > 0)
    # Adjacent cells are merged, as a sum over them would be. Cells apart stay two claims.
    gap = ((hull_high - hull_low) - (high - low) - (other_high - other_low))[both]
    allowed = -0.5 if axis.input == SAMPLES else SLACK
    apart = bool((gap > allowed).any())
    touch = len(gap) > 0 and bool((gap.abs() <= SLACK).all())
    # Two grids, as in a residual stream, become the finer one. Two single cells do so only if one
    # is inside of the other.
    wider = torch.maximum(high - low, other_high - other_low)
    within = bool((hull_high - hull_low <= wider + SLACK)[both].all())
    if axis.input != SAMPLES and (within or (dims and not touch)):
        finer = _finer(one, other, axis)
        if finer is not None:
            return [finer]
    if apart:
        return None
    by_sample = one.by_sample or other.by_sample
    hull = from_borders(hull_low, hull_high, axis, by_sample)
    if hull is None:
        return None if axis.input == SAMPLES else []
    return [of_each_sample(hull, samples, axis) if by_sample and samples else hull]


def _without_whole(claim: Coordinates, other: Coordinates, axis: Axis) -> Coordinates:
    """A claim without the whole axis, which a sample has, where another claim has a cell."""
    if not claim.by_sample or axis.input == SAMPLES:
        return claim
    low, high = claim.borders()
    is_whole = (high - low >= axis.extent - SLACK) & (other.index > 0)
    return interned(claim.index.masked_fill(is_whole, 0), claim.cells, claim.by_sample)


def _dims_within_sample(claim: Coordinates, samples: Coordinates | None) -> set[int]:
    """The dimensions along which the elements of one sample have different cells."""
    of_samples = set(samples.dims) if samples else set[int]()
    dims = set(claim.dims)
    if samples is None or not dims & of_samples:
        return dims
    if len(of_samples) > 1:
        return dims - of_samples
    # The dimension may hold several windows of each sample.
    (dim,) = of_samples
    _, sample = samples.index.flatten().unique(return_inverse=True)  # type: ignore[no-untyped-call]
    number = torch.arange(len(sample), device="cpu")
    first = torch.full_like(number, len(number)).scatter_reduce(0, sample, number, "amin")[sample]
    is_same = torch.equal(claim.index.index_select(dim, first), claim.index)
    return dims - of_samples if is_same else dims


def _finer(one: Coordinates, other: Coordinates, axis: Axis) -> Coordinates | None:
    """The claim with the smaller cells, filled up with the cells of the other; None if neither."""
    if one.cells[:, 1].unique().equal(other.cells[:, 1].unique()):  # type: ignore[no-untyped-call]
        return None  # cells of equal size: the steps between them make neither grid the finer one
    widths = [_widths(claim, axis) for claim in (one, other)]
    for small, large, order in ((one, other, 1), (other, one, -1)):
        width, limit = widths[::order]
        if float(width.max()) < float(limit.min()) * (1 - SLACK):
            index = torch.where(large.index > 0, large.index + len(small.cells), 0)
            index = torch.where(small.index > 0, small.index, index)
            by_sample = small.by_sample or large.by_sample
            return coordinates(index, torch.cat([small.cells, large.cells]), by_sample)
    return None


def _widths(claim: Coordinates, axis: Axis) -> Tensor:
    """The widths of cells, or the step of overlapping windows and of subsampled grids."""
    if narrowed(claim, axis) is not claim:
        return claim.cells[:2, 0].diff()
    cells = evenly_wide(claim.cells, axis.extent) if claim.may_be_subsampled else claim.cells
    return cells[:, 1]
