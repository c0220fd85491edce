"""The cells that elements have once something asks for their whole grid, as a convolution does.

Until then, the elements of a subsampled grid or of a part of an image have just their own cells,
and copies of an element have the same cell. Several parts can then be put together again, and the
parts of a reshaped tensor taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, evenly_wide
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    from_borders,
    shared,
)
from captum_tgrad.decomposition.places.places import Claim, Places, places
from captum_tgrad.decomposition.places.windows import narrowed


def on_whole_grid(given: Places) -> Places:
    """The places of a tensor of which something asks for the whole grid."""
    return constants_filled_in(with_copies_refined(windows_joined(given)))


def windows_joined(given: Places) -> Places:
    """The places of a tensor whose elements have one place in place of several at equal distances.

    The sum of an image and its shifted copies is then where a dilated convolution is.
    """
    if all(len(claims) < 3 for claims in given.claims.values()):
        return given
    joined = [
        (axis, claim)
        for axis, claims in given.claims.items()
        for claim in _in_windows(claims, axis)
    ]
    return places(given.shape, joined)


def _in_windows(claims: tuple[Coordinates, ...], axis: Axis) -> tuple[Coordinates, ...]:
    if len(claims) < 3 or not axis.is_spatial or len({claim.dims for claim in claims}) > 1:
        return claims
    low, high = zip(*(claim.borders() for claim in claims), strict=True)
    hull = from_borders(torch.stack(low).amin(0), torch.stack(high).amax(0), axis)
    windows = narrowed(hull, axis)
    return claims if windows is None or windows is hull else (windows,)


def constants_filled_in(given: Places) -> Places:
    """The places of a tensor with the cells of constants that replace pixels; see ``filled_in``."""
    of_samples = {dim for claim in given.samples for dim in claim.dims}

    def whole(axis: Axis, claim: Coordinates) -> Coordinates:
        dims = [dim for dim in claim.dims if dim not in of_samples]
        is_one = len(dims) == 1 and len(given.claims[axis]) == 1
        return filled_in(claim, dims[0], axis) if is_one else claim

    if all(claim.has_everywhere for _, claim in given.pairs):
        return given
    return places(given.shape, [(axis, whole(axis, claim)) for axis, claim in given.pairs])


def copies_refined(claims: Iterable[Claim], *, zeros_too: bool = True) -> list[Claim]:
    """Makes a finer grid of adjacent copies that no other coordinate distinguishes.

    The first dimension is no grid: with a single sample it may hold tokens and heads, which the
    samples of a batch would distinguish.

    Args:
        claims: The coordinates of the elements.
        zeros_too: Whether zeros between elements count as copies.
    """
    claims = list(claims)
    varying = [dim for _, claim in claims if claim for dim in claim.dims]
    alone = {dim for dim in varying if dim > 0 and varying.count(dim) == 1}
    return [
        (axis, _refined(claim, axis, zeros_too))
        if claim and len(claim.dims) == 1 and claim.dims[0] in alone
        else (axis, claim)
        for axis, claim in claims
    ]


def with_copies_refined(given: Places) -> Places:
    """The places of a tensor whose copies are a finer grid.

    Without channels, it is no grid: tokens have been flattened together with their channels.
    """
    claims = list(given.pairs)
    known = {dim for axis, claim in claims if axis.is_place for dim in claim.dims}
    refined = claims if known.issuperset(range(1, len(given.shape))) else copies_refined(claims)
    return given if refined == claims else places(given.shape, refined)


def copies_kept(whole: Places, refined: Places) -> Places:
    """The places of elements that were moved, in whole cells as long as they can be refined later.

    If the parts of one cell were moved to different dimensions, they were the channels of one
    element, and the cell stays whole. Otherwise, the elements of a finer grid were moved.

    Args:
        whole: The places by the elements' own cells.
        refined: The places by the cells of ``copies_refined``.
    """
    pairs, parts = list(whole.pairs), list(refined.pairs)
    if whole is refined or [axis for axis, _ in pairs] != [axis for axis, _ in parts]:
        return refined
    kept: list[Claim] = []
    for (axis, claim), (_, later), (_, part) in zip(
        pairs, copies_refined(pairs), parts, strict=True
    ):
        are_apart = len(claim.dims) < len(part.dims)
        kept.append((axis, claim if are_apart or later is not claim else part))
    return places(whole.shape, kept)


@torch.no_grad()
def _refined(claim: Coordinates, axis: Axis, zeros_too: bool) -> Coordinates | None:
    """Gives each copy its part of the cell; at both ends, some copies may have been cut off.

    Args:
        claim: Coordinates along one dimension.
        axis: The axis that they are on.
        zeros_too: As for :func:`copies_refined`.
    """
    if axis.input == SAMPLES:
        return claim
    index = (_zeros_as_copies(claim) if zeros_too else claim.index).flatten()
    own, run, counts = index.unique_consecutive(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
    image = torch.nonzero(own).flatten()
    if len(image) < 2:
        return claim
    first, last = int(image[0]), int(image[-1])
    inner = counts[first + 1 : last] if last - first > 1 else counts[first : last + 1]
    times = int(inner[0])
    is_grid = len(image) == last - first + 1 and bool((inner == times).all())
    if times < 2 or not is_grid or int(counts[first : last + 1].max()) > times:
        return claim
    cells = widened(claim, axis).cells
    middles, widths = (each[(index - 1).clamp_min(0)] for each in cells.unbind(1))
    sign = -1.0 if float(cells[own[last] - 1, 0]) < float(cells[own[first] - 1, 0]) else 1.0
    start = counts.cumsum(0) - counts
    start[first] -= times - counts[first]  # the first copies are cut off
    part = torch.arange(len(index), device="cpu") - start[run]
    center = middles + sign * widths * ((part + 0.5) / times - 0.5)
    half = widths / times / 2
    low, high = ((center + side * half).where(index > 0, -side * torch.inf) for side in (-1, 1))
    return from_borders(low.reshape(claim.index.shape), high.reshape(claim.index.shape), axis)


def _zeros_as_copies(claim: Coordinates) -> Tensor:
    """The cells of adjacent elements with zeros between them: each zero has that of its element.

    They are the copies that a nearest neighbor enlargement would have, of which a mask clears some.
    """
    index, (middle, width) = claim.index.flatten(), claim.cells.unbind(1)
    image = torch.nonzero(index).flatten()
    pitch = len(index) // max(len(image), 1)
    is_regular = pitch > 1 and pitch * len(image) == len(index) and len(image) > 1
    if not is_regular or not bool((image.diff() == pitch).all()):
        return claim.index
    if not torch.allclose(middle.diff(), width[1:]):
        return claim.index  # pixels that were written at their own position; see ``filled_in``
    return index[image].repeat_interleave(pitch)


@torch.no_grad()
def filled_in(claim: Coordinates, dim: int, axis: Axis) -> Coordinates:
    """Gives constants along ``dim`` that replace pixels of an image the cells of these pixels.

    A part of an image that is padded to the whole image, or copied into zeros at its own position,
    is then where an image is of which a mask clears the rest.
    """
    if dim not in claim.dims or axis.input < 0 or claim.has_everywhere:
        return claim
    index = claim.index.movedim(dim, -1)
    low, high = (border.movedim(dim, -1) for border in claim.borders())
    known, middle, width = index > 0, (low + high) / 2, high - low
    first = known.long().argmax(-1, keepdim=True)
    last = index.shape[-1] - 1 - known.flip(-1).long().argmax(-1, keepdim=True)
    step = (middle.gather(-1, last) - middle.gather(-1, first)) / (last - first)
    line = middle.gather(-1, first) + step * (torch.arange(index.shape[-1], device="cpu") - first)
    half = step.abs() / 2
    is_line = ((line - middle).abs() < SLACK) & ((width / 2 - half).abs() < SLACK)
    ends = (line - half).amin(-1, keepdim=True) + 0.5, (line + half).amax(-1, keepdim=True) + 0.5
    is_whole = (ends[0].abs() < SLACK) & ((ends[1] - axis.extent).abs() < SLACK)
    filled = ~known & is_whole & (is_line | ~known).all(-1, keepdim=True)
    if not bool(filled.any()):
        return claim
    low, high = torch.where(filled, line - half, low), torch.where(filled, line + half, high)
    found = from_borders(low.movedim(-1, dim), high.movedim(-1, dim), axis, claim.by_sample)
    return found or claim


@torch.no_grad()
def widened(claim: Coordinates, axis: Axis) -> Coordinates:
    """The cells of a subsampled grid cover the axis evenly: every other row stands for two."""
    if axis.input == SAMPLES or not axis.is_place or not claim.may_be_subsampled:
        return claim
    cells = evenly_wide(claim.cells, axis.extent)
    return claim if cells is claim.cells else shared(claim.index, cells, by_sample=False)
