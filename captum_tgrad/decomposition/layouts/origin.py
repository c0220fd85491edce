"""Where a tensor of the traced network comes from, remembered on the tensor itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_tgrad.decomposition.layouts.layout import Layout, unknown_layout

_ORIGIN = "_captum_tgrad_origin"


class Lifetime:
    """That of a trace: what a model keeps of one forward pass is a constant of the next."""

    def __init__(self) -> None:
        self.is_over = False


@dataclass(frozen=True)
class Origin:
    """Where a tensor of the traced network comes from.

    Args:
        layout: Which sample and place each of its elements belongs to.
        inputs: The numbers of the network's inputs that it depends on.
        lifetime: For how long this is so.
    """

    layout: Layout
    inputs: frozenset[int]
    lifetime: Lifetime


def origin_of(tensor: Tensor) -> Origin | None:
    """The origin that the running trace has given to ``tensor``, if it has seen it."""
    origin: Origin | None = getattr(tensor, _ORIGIN, None)
    return None if origin is None or origin.lifetime.is_over else origin


def set_origin(tensor: Tensor, origin: Origin) -> None:
    """Remembers a tensor's origin on the tensor itself, so that it lives as long as the tensor."""
    setattr(tensor, _ORIGIN, origin)


def layout_of(tensor: Any) -> Layout:
    """Where the elements of a tensor are; unknown if the trace has not seen it.

    What is not a tensor has no dimensions.
    """
    origin = origin_of(tensor) if isinstance(tensor, Tensor) else None
    if origin is not None and [dim.size for dim in origin.layout] == list(tensor.shape):
        return origin.layout
    return unknown_layout(tensor.shape) if isinstance(tensor, Tensor) else ()
