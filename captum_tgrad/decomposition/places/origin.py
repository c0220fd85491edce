"""Where a tensor of the traced network comes from, remembered on the tensor itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from captum_tgrad.decomposition.places.places import Places

_ORIGIN = "_captum_tgrad_origin"


class Lifetime:
    """That of a trace: what a model keeps of one forward pass is a constant of the next."""

    def __init__(self) -> None:
        self.is_over = False


class Origin(NamedTuple):
    """Where a tensor of the traced network comes from.

    Args:
        places: Which sample and place each of its elements belongs to.
        inputs: The numbers of the network's inputs that it depends on.
        lifetime: For how long this is so.
    """

    places: Places
    inputs: frozenset[int]
    lifetime: Lifetime


def origin_of(tensor: Any) -> Origin | None:
    """The origin that the running trace has given to ``tensor``, if it has seen it."""
    known = getattr(tensor, _ORIGIN, None)
    if known is None:
        return None
    origin: Origin = known[0]
    return None if origin.lifetime.is_over else origin


def is_stale(tensor: Tensor) -> bool:
    """Whether its memory was overwritten through another tensor since its origin was set."""
    known = getattr(tensor, _ORIGIN, None)
    return known is not None and known[1] != tensor._version


def set_origin(tensor: Tensor, origin: Origin) -> None:
    """Remembers a tensor's origin on the tensor itself, so that it lives as long as the tensor."""
    setattr(tensor, _ORIGIN, (origin, tensor._version))


def places_of(tensor: Tensor) -> Places | None:
    """Where the elements of a tensor are; None for a constant."""
    origin = origin_of(tensor)
    return origin.places if origin is not None and origin.places.shape == tensor.shape else None
