"""Stores the places of a tensor on the tensor itself, as its origin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import OnAxis
from captum_tgrad.decomposition.places.places import Places

_ORIGIN = "_captum_tgrad_origin"


class Lifetime:
    """The lifetime of a trace. A tensor that a model keeps is a constant in the next trace."""

    def __init__(self) -> None:
        self.is_over = False


class Origin(NamedTuple):
    """Where a tensor comes from: the places of its elements in a trace.

    Args:
        places: The places of its elements.
        lifetime: The lifetime of the trace, after which the origin is invalid.
        version: The version counter of the tensor, which changes when it is overwritten.
    """

    places: Places
    lifetime: Lifetime
    version: int


def origin_of(tensor: Any) -> Origin | None:
    """The origin of ``tensor`` in the running trace; None if the trace has not seen it."""
    known: Origin | None = getattr(tensor, _ORIGIN, None)
    return None if known is None or known.lifetime.is_over else known


def set_origin(tensor: Tensor, places: Places, lifetime: Lifetime) -> Origin:
    """Stores a tensor's origin on the tensor, so that both are freed together, and returns it."""
    origin = Origin(places, lifetime, tensor._version)
    setattr(tensor, _ORIGIN, origin)
    return origin


def places_of(tensor: Tensor) -> Places | None:
    """The places of a tensor; None for a constant."""
    origin = origin_of(tensor)
    return origin.places if origin is not None and origin.places.shape == tensor.shape else None


def places_of_all(tensors: Iterable[Tensor]) -> list[Places]:
    """The places of all tensors that are not constants."""
    return [places for places in map(places_of, tensors) if places is not None]


def coordinates_of(tensor: Any) -> Iterable[OnAxis]:
    """The coordinates of a tensor, with their axes."""
    places = places_of(tensor) if isinstance(tensor, Tensor) else None
    return () if places is None else places.pairs
