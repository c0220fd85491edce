"""The places of a tensor: the coordinates of its elements on all axes of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import (
    LOST,
    SAMPLES,
    Axis,
    Coordinates,
    along,
    coordinates,
    from_borders,
    narrowed,
    of_each_sample,
    widened,
    without_gaps,
)

Claims = Mapping[Axis, tuple[Coordinates, ...]]
FoundAxes = dict[Axis, list[Coordinates | None]]


def collected(parts: Iterable[tuple[Axis, Coordinates | None]]) -> FoundAxes:
    """Claims by axis."""
    found: FoundAxes = {}
    for axis, claim in parts:
        found.setdefault(axis, []).append(claim)
    return found


MOST_CLAIMS = 4
"""An element with more claims on one axis has no place on it."""


class Places:
    """The coordinates of a tensor's elements.

    An element may have several claims on one axis, such as a score between a query and a key. Its
    evidence is then divided among them.

    Args:
        shape: The tensor's shape.
        claims: The coordinates by axis; an axis without any is left out.

    Attributes:
        has_channels: Whether elements have coordinates on a channel axis of an input.
    """

    __slots__ = ("__weakref__", "claims", "has_channels", "shape")

    def __init__(self, shape: tuple[int, ...], claims: Claims) -> None:
        self.shape = shape
        self.claims = claims
        self.has_channels = any(not axis.is_place and axis.extent != 1 for axis in claims)

    @property
    def pairs(self) -> Iterator[tuple[Axis, Coordinates]]:
        """Every axis with every claim on it."""
        return ((axis, claim) for axis, claims in self.claims.items() for claim in claims)


_all: WeakValueDictionary[object, Places] = WeakValueDictionary()


def places(shape: Sequence[int], claims: Mapping[Axis, Iterable[Coordinates | None]]) -> Places:
    """Makes the places of a tensor, one object for equal places; reconciles claims on one axis."""
    kept: dict[Axis, tuple[Coordinates, ...]] = {}
    samples: Coordinates | None = None
    for axis in sorted(claims, key=lambda axis: axis.input != SAMPLES):
        own = [_dense(claim, shape, axis, samples) for claim in claims[axis] if claim is not None]
        if merged := _merged(own, axis, set(samples.dims) if samples else set()):
            kept[axis] = merged
            if axis.input == SAMPLES and len(merged) == 1:
                (samples,) = merged
    key = (tuple(shape), tuple(kept.items()))
    known = _all.get(key)
    if known is None:
        known = _all[key] = Places(tuple(shape), kept)
    return known


def _dense(
    claim: Coordinates, shape: Sequence[int], axis: Axis, samples: Coordinates | None
) -> Coordinates:
    """Coordinates without gaps, except that what fills up one sample has no place in the others."""
    if axis.input == SAMPLES:
        fit = {dim for dim in claim.dims if shape[dim] == axis.extent > 1}
        dense = without_gaps(claim, set(claim.dims) - fit)
        for dim in sorted(fit, reverse=True):
            # If only one sample has elements, the rest of its last dimension is of the others.
            if fit & set(dense.dims) - {dim}:
                dense = without_gaps(dense, [dim])
        return dense
    of_samples = set(samples.dims) if samples else set[int]()
    dense = without_gaps(claim, set(claim.dims) - of_samples)
    if samples is None or axis.input < 0 or not of_samples & set(dense.dims):
        return dense
    found = of_each_sample(dense, samples, axis)
    if found.by_sample or not samples.has_everywhere:
        return found
    return without_gaps(found, of_samples & set(found.dims))


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
    axes = {Axis(SAMPLES, 0, shape[0]): (along(shape, 0),)}
    for dim in range(1, rank):
        axes[Axis(number, dim, shape[dim], is_place=dim != channel)] = (along(shape, dim),)
    return places(shape, axes)


def samples_of(given: Places) -> int:
    """The batch size."""
    return next(axis.extent for axis in given.claims if axis.input == SAMPLES)


def lost_places(shape: Sequence[int], kept: Claims, operation: str) -> Places:
    """The places of an output that lost all coordinates but ``kept``.

    Its positions become coordinates on ``LOST`` axes. Later operations move them like all others,
    so that every later term knows whether it lost a place.
    """
    samples = {dim for axis, claims in kept.items() for claim in claims for dim in claim.dims}
    lost = {
        Axis(LOST, dim, size, lost_at=operation): (along(shape, dim),)
        for dim, size in enumerate(shape)
        if size != 1 and dim not in samples
    }
    return places(shape, {**kept, **lost})


def has_places(given: Places) -> bool:
    """Whether elements have a coordinate on a spatial axis."""
    return any(axis.input != SAMPLES and axis.is_place for axis in given.claims)


def _merged(claims: list[Coordinates], axis: Axis, of_samples: set[int]) -> tuple[Coordinates, ...]:
    kept: list[Coordinates] = []
    for claim in dict.fromkeys(claims):
        for position, other in enumerate(kept):
            both = _reconciled(other, claim, axis, of_samples)
            if both is not None:
                kept[position : position + 1] = both
                break
        else:
            kept.append(claim)
    return tuple(dict.fromkeys(kept))


@torch.no_grad()
def _reconciled(
    one: Coordinates, other: Coordinates, axis: Axis, of_samples: set[int]
) -> list[Coordinates] | None:
    """The coordinates of elements with two claims; None if the claims contradict each other.

    The list is empty if both claims together are the whole axis.
    """
    dims, other_dims = (set(claim.dims) - of_samples for claim in (one, other))
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
    # Adjacent places are joined into one, as by a sum over them. Others stay two claims.
    gap = ((hull_high - hull_low) - (high - low) - (other_high - other_low))[both]
    allowed = -0.5 if axis.input == SAMPLES else 1e-6
    apart = bool((gap > allowed).any())
    touch = len(gap) > 0 and bool((gap.abs() <= 1e-6).all())
    # Elements of two grids, as in a residual stream, are on the finer one; two single elements only
    # if one is within the other.
    wider = torch.maximum(high - low, other_high - other_low)
    within = bool((hull_high - hull_low <= wider + 1e-6)[both].all())
    if axis.input != SAMPLES and (within or (dims and not touch)):
        finer = _finer(one, other, axis)
        if finer is not None:
            return [finer]
    if apart:
        return None
    padding = one.padding() & other.padding()
    by_sample = one.by_sample or other.by_sample
    hull = from_borders(hull_low, hull_high, axis, padding, by_sample)
    if hull is None:
        return None if axis.input == SAMPLES else []
    return [hull]


def _finer(one: Coordinates, other: Coordinates, axis: Axis) -> Coordinates | None:
    """The claim whose cells are all smaller than those of the other, completed by the other."""
    widths = [(narrowed(claim, axis) or claim).cells[:, 1] for claim in (one, other)]
    for small, large, order in ((one, other, 1), (other, one, -1)):
        width, limit = widths[::order]
        if float(width.max()) < float(limit.min()) * (1 - 1e-6):
            index = torch.where(large.index > 0, large.index + len(small.cells), 0)
            index = torch.where(small.index > 0, small.index, index)
            by_sample = small.by_sample or large.by_sample
            return coordinates(index, torch.cat([small.cells, large.cells]), by_sample)
    return None


class ScatteredError(RuntimeError):
    """Elements that were mixed are scattered over an axis: no cell is their place."""


@torch.no_grad()
def mixed(claim: Coordinates, dims: Iterable[int], axis: Axis) -> list[Coordinates]:
    """The coordinates after elements along ``dims`` were mixed; these dimensions keep size 1.

    Each new element is in the cells of the elements that were mixed. If these are many, it is in
    the smallest cell that holds them, or in two, as at the seam of a rolled image.

    Raises:
        ScatteredError: The elements are in several parts, and most of the smallest cell is between.
    """
    over = [dim for dim in dims if dim in claim.dims]
    if not over:
        return [claim]
    if len(claim.cells) > MOST_CLAIMS:
        claim = widened(claim, axis)
    rest = [1 if dim in over else size for dim, size in enumerate(claim.index.shape)]

    def in_one_dimension(values: Tensor) -> Tensor:
        return values.movedim(over, list(range(-len(over), 0))).flatten(-len(over))

    borders = [in_one_dimension(border) for border in claim.borders()]
    padding = in_one_dimension(claim.padding()).all(-1)
    low, order = borders[0].sort(-1)
    high = borders[1].gather(-1, order).cummax(-1).values
    width = float(claim.cells[:, 1].min())
    # A missing cell is enough to take them apart.
    has_gaps = bool((_gaps(low, high) > width * (1 - 1e-6)).any())
    if has_gaps and axis.is_place and axis.input >= 0:
        ends = low[..., 0].reshape(rest), high[..., -1].reshape(rest)
        hull = from_borders(*ends, axis, padding.reshape(rest), claim.by_sample)
        numbers = in_one_dimension(claim.index).expand(low.shape)
        found = _few_or_windows(claim, numbers, rest, hull, axis)
        if found is not None:
            return found
    if axis.input == SAMPLES or low.shape[-1] == 1:
        parts = [(low[..., 0], high[..., -1])]
    else:
        parts = _parts(low, high, width, axis)
    padding = padding.reshape(rest)
    cells = [
        narrowed(
            from_borders(low.reshape(rest), high.reshape(rest), axis, padding, claim.by_sample),
            axis,
        )
        for low, high in parts
    ]
    return list(dict.fromkeys(each for each in cells if each is not None))


def _few_or_windows(
    claim: Coordinates,
    numbers: Tensor,
    shape: Sequence[int],
    hull: Coordinates | None,
    axis: Axis,
) -> list[Coordinates] | None:
    """The coordinates if a few distant elements are mixed, or windows that slide over the axis.

    Args:
        claim: The coordinates of the elements.
        numbers: The elements' cells, those that are mixed along the last dimension.
        shape: The shape of the new elements.
        hull: The smallest cell that holds the elements, for each new element.
        axis: The axis that the coordinates are on.

    Returns:
        The coordinates of the new elements; None if they are neither.
    """
    few, windows = _few(numbers), narrowed(hull, axis)
    if windows is not None and windows is not hull:  # as after a dilated convolution
        return None if len(few) == 2 else [windows]
    if not few:
        return None
    cells = [coordinates(n.reshape(shape), claim.cells, claim.by_sample) for n in few]
    return list(_merged([each for each in cells if each is not None], axis, set()))


def _gaps(low: Tensor, high: Tensor) -> Tensor:
    """The distances between adjacent cells along the last dimension, as for :func:`_parts`."""
    return (low[..., 1:] - high[..., :-1]).nan_to_num(0, posinf=0).clamp_min(0)


def _few(numbers: Tensor) -> list[Tensor]:
    """The different numbers along the last dimension; an empty list if they are many."""
    numbers = numbers.sort(-1).values
    is_new = numbers.diff(dim=-1, prepend=torch.full_like(numbers[..., :1], -1)) != 0
    slot = is_new.long().cumsum(-1) - 1
    count = int(slot.max()) + 1
    if count > MOST_CLAIMS:
        return []
    return list(numbers.new_zeros(*numbers.shape[:-1], count).scatter(-1, slot, numbers).unbind(-1))


def _parts(low: Tensor, high: Tensor, width: float, axis: Axis) -> list[tuple[Tensor, Tensor]]:
    """The borders of the two cells that hold the cells along the last dimension; often the same.

    Args:
        low: The lower borders of the cells, sorted.
        high: The largest upper border up to each cell.
        width: The width of the smallest cell.
        axis: The axis that the cells are on.
    """
    start, stop = low[..., 0], high[..., -1]
    gaps = _gaps(low, high)
    gap, place = gaps.max(-1)
    size = stop - start
    # If there is only one gap, a missing cell is enough to split them.
    is_only = (gaps > 1e-6).sum(-1) == 1
    apart = gap > torch.where(is_only, width * (1 - 1e-6), size / 2)
    outside = gap.where(apart, 0)
    scattered = (size > 0) & (gaps.sum(-1) - outside > (size - outside) / 2)
    # Every n-th element of the whole axis, as in grid attention, has no place by nature.
    is_even = (gap - gaps.where(gaps > 1e-6, torch.inf).amin(-1) < 1e-6) & ~apart
    everywhere = is_even & (gap > 1e-6) & (size + 2 * gap > axis.extent - 1e-6)
    if axis.is_place and axis.input >= 0 and bool((scattered & ~everywhere).any()):
        raise ScatteredError
    start, stop = start.where(~everywhere, -0.5), stop.where(~everywhere, axis.extent - 0.5)
    end = high.gather(-1, place.unsqueeze(-1)).squeeze(-1)
    begin = low.gather(-1, place.unsqueeze(-1) + 1).squeeze(-1)
    return [(start, torch.where(apart, end, stop)), (torch.where(apart, begin, start), stop)]
