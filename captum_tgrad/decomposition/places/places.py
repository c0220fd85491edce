"""Where the elements of a tensor are: their coordinates on every axis of the inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
)

Claims = Mapping[Axis, tuple[Coordinates, ...]]


class Places:
    """The coordinates of a tensor's elements.

    An element may have two claims on one axis, such as a score between a query and a key. It has no
    place there until a product or a sum removes one of them.

    Args:
        shape: The tensor's shape.
        claims: The coordinates by axis; an axis without any is left out.
    """

    __slots__ = ("__weakref__", "claims", "shape")

    def __init__(self, shape: tuple[int, ...], claims: Claims) -> None:
        self.shape = shape
        self.claims = claims

    def varying(self, dim: int) -> bool:
        """Whether a coordinate depends on that dimension."""
        return any(dim in claim.dims for claims in self.claims.values() for claim in claims)


_all: WeakValueDictionary[object, Places] = WeakValueDictionary()


def places(
    shape: Sequence[int], claims: Mapping[Axis, Iterable[Coordinates | None]]
) -> Places:
    """Places of a tensor; equal ones are one object. Claims on one axis are reconciled."""
    kept: dict[Axis, tuple[Coordinates, ...]] = {}
    for axis, given in claims.items():
        merged = _merged([claim for claim in given if claim is not None], axis)
        if merged:
            kept[axis] = merged
    key = (tuple(shape), tuple(kept.items()))
    known = _all.get(key)
    if known is None:
        known = _all[key] = Places(tuple(shape), kept)
    return known


def input_places(shape: Sequence[int], number: int, channel_dim: int | None = 1) -> Places:
    """The places of an input whose first dimension counts the samples.

    Args:
        shape: The input's shape.
        number: Which of the inputs it is.
        channel_dim: Which dimension is no place; None if all are.
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
    """The places of an output of which only ``kept`` is known: its positions are kept instead.

    They travel on like any coordinate, so that it is known of every later term whether it could
    have had a place.
    """
    samples = {dim for axis, claims in kept.items() for claim in claims for dim in claim.dims}
    lost = {
        Axis(LOST, dim, size, lost_at=operation): (along(shape, dim),)
        for dim, size in enumerate(shape)
        if size != 1 and dim not in samples
    }
    return places(shape, {**kept, **lost})


def has_places(given: Places) -> bool:
    """Whether anything but the sample and the channel is known of an element."""
    return any(axis.input != SAMPLES and axis.is_place for axis in given.claims)


def _merged(claims: list[Coordinates], axis: Axis) -> tuple[Coordinates, ...]:
    if len(claims) < 2:
        return tuple(claims)
    kept: list[Coordinates] = []
    for claim in dict.fromkeys(claims):
        for position, other in enumerate(kept):
            both = _reconciled(other, claim, axis)
            if both is not None:
                kept[position] = both
                break
        else:
            kept.append(claim)
    return tuple(dict.fromkeys(kept))


@torch.no_grad()
def _reconciled(one: Coordinates, other: Coordinates, axis: Axis) -> Coordinates | None:
    """The coordinates of elements made of two, or None if they contradict each other."""
    if one is other or set(one.dims) < set(other.dims):
        return other
    if set(other.dims) < set(one.dims):
        return one
    if one.dims != other.dims:
        return None
    finer = _finer(one, other)
    if finer is not None and axis.input != SAMPLES:
        return finer
    low, high = one.borders()
    other_low, other_high = other.borders()
    both = (one.index > 0) & (other.index > 0)
    hull = from_borders(torch.minimum(low, other_low), torch.maximum(high, other_high), axis)
    if hull is None or not bool(both.any()):
        return hull
    # Places that lie beside each other make one between them, as a sum over them would. Where
    # many different ones would fall together, as in a sum with a mirror image, there is none.
    distinct = max(_distinct(one.index, both), _distinct(other.index, both))
    if axis.input == SAMPLES or hull.index.shape != both.shape:
        return hull if hull.index.shape == both.shape and bool((hull.index > 0).all()) else None
    return hull if _distinct(_middles(hull), both) >= distinct else None


def _finer(one: Coordinates, other: Coordinates) -> Coordinates | None:
    """The one of two whose cells are all smaller than those of the other."""
    for small, large in ((one, other), (other, one)):
        if float(small.cells[:, 1].max()) < float(large.cells[:, 1].min()) * (1 - 1e-6):
            both = torch.where(small.index > 0, small.index, large.index + len(small.cells))
            both = torch.where((small.index > 0) | (large.index > 0), both, 0)
            return coordinates(both, torch.cat([small.cells, large.cells]))
    return None


def _middles(claim: Coordinates) -> Tensor:
    _, number = claim.cells[:, 0].unique(return_inverse=True)
    return torch.cat([torch.zeros(1, dtype=torch.long), number + 1])[claim.index]


def _distinct(index: Tensor, where: Tensor) -> int:
    return len(index[where].unique())


@torch.no_grad()
def mixed(claim: Coordinates, dims: Iterable[int], axis: Axis) -> Coordinates | None:
    """The coordinates after elements along ``dims`` were mixed, which keep size 1.

    Each is in the smallest cell that holds all that it was mixed from.
    """
    over = [dim for dim in dims if dim in claim.dims]
    if not over:
        return claim
    low, high = claim.borders()
    return from_borders(low.amin(over, keepdim=True), high.amax(over, keepdim=True), axis)


def reindexed(claim: Coordinates, index: Tensor) -> Coordinates | None:
    """The same cells, given to other elements."""
    return coordinates(index, claim.cells)
