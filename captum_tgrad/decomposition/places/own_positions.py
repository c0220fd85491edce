"""The positions of elements to which scattered others are added, as the nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates
from captum_tgrad.decomposition.places.merging import dims_within_sample

_Part = tuple[Coordinates, ...]
"""The coordinates of one summand on all axes."""


@torch.no_grad()
def at_own_positions(
    given: Mapping[Axis, Sequence[Coordinates]], samples: Coordinates | None
) -> dict[Axis, list[Coordinates]]:
    """The coordinates of elements to which messages are added, without those of the messages.

    A node of a graph to which messages of its neighbors are added keeps its position alone, as with
    a link to itself. Shifted and shuffled elements are no messages.

    Args:
        given: The coordinates on each axis.
        samples: The samples of the elements; None if they are unknown.

    Returns:
        The only coordinates on each axis on which the elements have messages.
    """
    found: dict[Axis, list[Coordinates]] = {}
    by_input: dict[int, list[Axis]] = {}
    for axis in sorted(each for each in given if each.is_spatial):
        by_input.setdefault(axis.input, []).append(axis)
    for axes in by_input.values():
        counts = {len(given[axis]) for axis in axes}
        if len(counts) > 1 or counts <= {0, 1}:
            continue
        parts = list(dict.fromkeys(zip(*(given[axis] for axis in axes), strict=True)))
        own = _without_messages(parts, axes, samples)
        if own is not None:
            found |= {axis: [coords] for axis, coords in zip(axes, own, strict=True)}
    return found


def _without_messages(
    parts: Sequence[_Part], axes: Sequence[Axis], samples: Coordinates | None
) -> _Part | None:
    """The summand with the elements' own positions; None if they have none, or no messages."""
    in_order = [part for part in parts if _is_in_order(part, axes)]
    if len(in_order) != 1:
        return None
    (own,) = in_order
    coordinates = [coords for part in parts for coords in part]
    if len(set[int]().union(*(dims_within_sample(coords, samples) for coords in coordinates))) > 1:
        return None
    positions = _positions(own, axes)
    others = (_positions(part, axes) for part in parts if part is not own)
    is_sum = any(_are_messages(other, positions, samples) for other in others)
    return own if is_sum else None


def _positions(part: _Part, axes: Sequence[Axis]) -> Tensor:
    """The position of each element, counted over all axes; NaN if it has none."""
    found = torch.zeros((), dtype=torch.float64, device="cpu")
    for coords, axis in zip(part, axes, strict=True):
        found = found * axis.extent + coords.of_elements(coords.cells[:, 0], torch.nan)
    return found


def _is_in_order(part: _Part, axes: Sequence[Axis]) -> bool:
    """Whether elements along one dimension are the cells of a grid, in order, in each sample."""
    count = math.prod(len(coords.cells) for coords in part)
    positions = _positions(part, axes)
    size = positions.numel()
    if count == 1 or size != max(positions.shape) or size % count:
        return False
    rows = positions.reshape(-1, count)
    return bool((rows.diff(dim=1) > 0).all()) and torch.equal(rows, rows[:1].expand_as(rows))


def _are_messages(positions: Tensor, own: Tensor, samples: Coordinates | None) -> bool:
    """Whether several elements of a sample are at the same position, and they are not shifted."""
    sample = torch.zeros((), dtype=torch.long, device="cpu") if samples is None else samples.index
    positions, own, sample = torch.broadcast_tensors(positions, own, sample)  # type: ignore[no-untyped-call]
    has = ~positions.isnan()
    pairs = torch.stack([sample[has].double(), positions[has]])
    if pairs.unique(dim=1).shape == pairs.shape:  # type: ignore[no-untyped-call]
        return False
    # Shifted elements have the same one only at the ends of the grid, where this is padded.
    end = (own.max() - own.min()) / 4
    offsets = (positions - own)[has & (own >= own.min() + end) & (own <= own.max() - end)]
    return bool((offsets != offsets[:1]).any())
