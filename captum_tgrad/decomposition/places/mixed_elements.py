"""The coordinates of elements that are sums or other mixtures of several elements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    coordinates,
    from_borders,
    narrowed,
    widened,
)
from captum_tgrad.decomposition.places.places import MOST_CLAIMS, merged


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
    return list(merged([each for each in cells if each is not None], axis))


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
