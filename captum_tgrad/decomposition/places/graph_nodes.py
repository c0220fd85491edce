"""Nodes of a graph: a sum over the neighbors of an element keeps the position of this element.

The i-th sum belongs to the i-th element if it has this element among its summands, for all i, and
some elements are summands of several others, or if elements are linked in both directions and some
have many links. The sum may be computed by an addition of messages (:func:`without_messages`), by
indices (:func:`cells_of_nodes`) or by an adjacency matrix (:func:`is_adjacency_matrix`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, even_cells
from captum_tgrad.decomposition.places.coordinates import (
    MOST_COORDINATES,
    Axis,
    Coordinates,
    OnAxis,
    sample_index,
    whole_axis,
)
from captum_tgrad.decomposition.places.merging import dims_within_sample

_Part = tuple[Coordinates, ...]
"""The coordinates of one summand on all axes."""


@torch.no_grad()
def without_messages(
    by_axis: Mapping[Axis, Sequence[Coordinates]], samples: Coordinates | None
) -> dict[Axis, list[Coordinates]]:
    """Leaves out the coordinates of messages that were added to nodes, as in ``h + A @ h``.

    Shifted and shuffled elements are no messages.

    Args:
        by_axis: The coordinates on each axis.
        samples: The samples of the elements; None if they are unknown.

    Returns:
        The coordinates of the nodes, on the axes on which they have messages.
    """
    found: dict[Axis, list[Coordinates]] = {}
    by_input: dict[int, list[Axis]] = {}
    for axis in sorted(each for each in by_axis if each.is_spatial):
        by_input.setdefault(axis.input, []).append(axis)
    for axes in by_input.values():
        counts = {len(by_axis[axis]) for axis in axes}
        if len(counts) > 1 or counts <= {0, 1}:
            continue
        parts = list(dict.fromkeys(zip(*(by_axis[axis] for axis in axes), strict=True)))
        own = _own_part(parts, axes, samples)
        if own is not None:
            found |= {axis: [coords] for axis, coords in zip(axes, own, strict=True)}
    return found


def _own_part(
    parts: Sequence[_Part], axes: Sequence[Axis], samples: Coordinates | None
) -> _Part | None:
    """The summand that holds the nodes themselves; None without one, or without messages."""
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
    positions, own, sample = torch.broadcast_tensors(positions, own, sample_index(samples))  # type: ignore[no-untyped-call]
    has = ~positions.isnan()
    pairs = torch.stack([sample[has].double(), positions[has]])
    if pairs.unique(dim=1).shape == pairs.shape:  # type: ignore[no-untyped-call]
        return False
    # Shifted elements have the same one only at the ends of the grid, where this is padded.
    end = (own.max() - own.min()) / 4
    offsets = (positions - own)[has & (own >= own.min() + end) & (own <= own.max() - end)]
    return bool(((offsets - offsets[:1]).abs() > SLACK).any())


def cells_of_nodes(
    coordinates: Sequence[OnAxis], sums: Tensor, shape: Sequence[int]
) -> list[Coordinates] | None:
    """The coordinates of sums that belong to the nodes of a graph.

    Nodes have the order of a grid: the second one is in the next cell on the last axis.

    Args:
        coordinates: The coordinates of the summands on each axis.
        sums: The flat index of the sum to which each summand belongs.
        shape: The shape of the sums.

    Returns:
        The coordinates on each axis; None if the sums are not those of nodes, or if most of them
        have most elements as summands.
    """
    own_cells = [coords for _, coords in coordinates]
    for every in (own_cells, [_on_whole_axis(coords, axis) for axis, coords in coordinates]):
        own = _nodes_of(every, sums, shape)
        if own is not None:
            cells = torch.unravel_index(own, [len(coords.cells) for coords in every])
            moved = (c.moved(cell + 1) for c, cell in zip(every, cells, strict=True))
            return [coords for coords in moved if coords is not None]
    return None


def _on_whole_axis(coords: Coordinates, axis: Axis) -> Coordinates:
    """The coordinates with the cells of their whole axis, of which they may have only some."""
    cells = coords.cells
    width = float(cells[0, 1])
    every = even_cells(axis.extent, max(round(axis.extent / width), 1))
    found = ((cells[:, 0] + 0.5) / width).long().clamp(0, len(every) - 1)
    if not torch.allclose(every[found], cells):
        return coords
    return Coordinates(coords.of_elements(found + 1, 0), every)


def _nodes_of(
    coordinates: Sequence[Coordinates], sums: Tensor, shape: Sequence[int]
) -> Tensor | None:
    """The number of the node of each sum; None if the sums are not those of nodes."""
    sums, *numbers = torch.broadcast_tensors(sums, *(c.index for c in coordinates))  # type: ignore[no-untyped-call]
    element, has, count = torch.zeros_like(sums), torch.ones_like(sums, dtype=torch.bool), 1
    for coords, number in zip(coordinates, numbers, strict=True):
        element = element * len(coords.cells) + number - 1
        has, count = has & (number > 0), count * len(coords.cells)
    if count > max(shape, default=0):
        return None  # no dimension holds all elements
    held = (sums * count + element)[has].unique()  # type: ignore[no-untyped-call]
    if len(held) > math.prod(shape) * count / 2:
        return None
    every = torch.arange(math.prod(shape), device="cpu").reshape(shape)
    counts = (held // count).bincount(minlength=math.prod(shape)).reshape(shape)
    for dim, size in enumerate(shape):
        if size % count == 0:  # more than once if a dimension holds several samples in turn
            own = (whole_axis(shape, dim).index - 1) % count
            stride = math.prod(shape[dim + 1 :])
            is_summand = torch.isin(every * count + own, held)
            own_of_sum = own.expand(shape).flatten()[held // count]
            # The elements that are not the own one of a sum, numbered apart in each sample.
            sent = (held - own_of_sum * stride * count)[held % count != own_of_sum]
            is_shared = len(sent.unique()) < len(sent)
            mutual = partial(_are_symmetric, held, own.expand(shape), stride, count)
            if _are_nodes(is_summand, counts, is_shared, mutual):
                return own
    return None


def _are_nodes(
    is_summand: Tensor, counts: Tensor, is_shared: bool, are_mutual: Callable[[], bool]
) -> bool:
    """Whether the i-th sum belongs to the i-th element.

    Args:
        is_summand: For each sum, whether its element is one of its summands.
        counts: The number of its summands.
        is_shared: Whether some elements are summands of several other sums. In the matrix form of
            an image plus its mirror image, each is a summand of one.
        are_mutual: Returns whether all elements are linked in both directions.
    """
    has = counts > 0
    if is_shared and bool((is_summand | ~has).all()) and int(has.sum()) > has.numel() / 2:
        return True
    return counts.numel() > 0 and int(counts.max()) > MOST_COORDINATES and are_mutual()


def _are_symmetric(held: Tensor, own: Tensor, stride: int, count: int) -> bool:
    """Whether all links go both ways: ``j`` is a summand of sum ``i`` if ``i`` is one of sum ``j``.

    Args:
        held: The pairs of sums and elements, ``sum * count + element``, in order.
        own: The number of each sum's own element.
        stride: The difference between the numbers of neighboring sums of a sample.
        count: The number of elements.
    """
    sums, element = held // count, held % count
    at = own.flatten()[sums]
    reverse = (sums + (element - at) * stride) * count + at
    return torch.equal(reverse.sort().values, held)


def is_adjacency_matrix(used: Tensor, row: int, column: int, samples: int) -> bool:
    """Whether constant matrices are the adjacency matrices of graphs.

    A banded matrix counts as one as well: it is then treated as a convolution.

    Args:
        used: Where the matrices are not zero.
        row: The dimension of the sums.
        column: The dimension of the summands.
        samples: The number of samples along it.
    """
    if used.shape[row] != used.shape[column] or int(used.sum()) * samples > used.numel() / 2:
        return False
    links = used.movedim((row, column), (-2, -1))
    is_summand = links.diagonal(dim1=-2, dim2=-1)
    is_shared = bool((links.sum(-2) - is_summand.long() > 1).any())
    return _are_nodes(is_summand, links.sum(-1), is_shared, lambda: torch.equal(links, links.mT))
