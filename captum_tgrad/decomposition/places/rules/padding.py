"""Places after padding, and after ``unfold``, which may pad as well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.gaps import gaps_filled
from captum_tgrad.decomposition.places.movement import places_after
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, is_at_own_position, make_places
from captum_tgrad.decomposition.places.rules.rule import Effect, places_rule
from captum_tgrad.decomposition.places.subsampling import widened
from captum_tgrad.decomposition.places.whole_grid import on_whole_grid, windows_joined


@places_rule(Effect.MOVES)
def padded(call: Call) -> list[Places]:
    """Constant padding continues the grid outside the image; other paddings repeat elements."""
    tensor, pads, mode = (call.bound[name] for name in ("input", "pad", "mode"))
    if mode != "constant":
        places = places_of(tensor)
        if places is not None:
            places = on_whole_grid(places).mapped(lambda axis, coords: widened(coords, axis))
        return places_after(lambda t: [F.pad(t[0], pads, mode)], [tensor], [places])
    return [padded_with_zeros(tensor, pads)]


def padded_with_zeros(tensor: Tensor, pads: Sequence[int]) -> Places:
    """Places after constant padding; negative pads crop."""
    return _padded_with_zeros(places_of(tensor) or make_places(tensor.shape), tuple(pads))


@lru_cache(maxsize=64)
def _padded_with_zeros(places: Places, pads: tuple[int, ...]) -> Places:
    cropped, shape = [min(pad, 0) for pad in pads], places.shape
    if any(cropped):
        whole = torch.zeros((), device="cpu").expand(shape)
        (places,) = places_after(lambda t: [F.pad(t[0], cropped)], [whole], [places])
    last_first = reversed(range(len(shape)))
    ends = dict(zip(last_first, zip(pads[::2], pads[1::2], strict=True), strict=False))

    def continued(axis: Axis, coords: Coordinates | None) -> Coordinates | None:
        for dim, (before, behind) in ends.items():
            added = max(before, 0), max(behind, 0)
            if coords is None or not any(added):
                continue
            if dim in coords.dims:
                coords = _continued(widened(coords, axis), dim, added, axis)
            elif shape[dim] == 1:
                padded = _with_gaps(coords, dim, added)
                coords = padded if is_at_own_position(padded, dim, axis) else coords
        return coords

    new_shape = [size + sum(ends.get(dim, ())) for dim, size in enumerate(shape)]
    pairs = gaps_filled(windows_joined(places)).pairs
    return make_places(new_shape, [(axis, continued(axis, coords)) for axis, coords in pairs])


def _continued(
    coords: Coordinates, dim: int, ends: tuple[int, int], axis: Axis
) -> Coordinates | None:
    """Continues an even grid in the padding along ``dim``; for others, padding has no cells."""
    padded = _with_gaps(coords, dim, ends)
    if coords.dims != (dim,) or axis.input == SAMPLES or not coords.has_everywhere:
        return coords.moved(padded.index)
    shape = [1] * coords.index.dim()
    low, high = (border.flatten() for border in coords.borders())
    middle = (low + high) / 2
    steps, widths = middle.diff(), (high - low)[1:]
    if not torch.allclose(steps, steps[:1]) or not torch.allclose(steps.abs(), widths):
        return coords.moved(padded.index)
    lines = []
    for border in (low, high):
        before = border[0] - (middle[1] - middle[0]) * torch.arange(ends[0], 0, -1, device="cpu")
        behind = border[-1] + (middle[-1] - middle[-2]) * torch.arange(1, ends[1] + 1, device="cpu")
        line = torch.cat([before, border, behind])
        shape[dim] = len(line)
        lines.append(line.reshape(shape))
    low, high = lines
    # Padding of a crop may replace pixels of the image. It is then handled as other constants are.
    if bool((axis.holds((low + high) / 2) & (padded.index == 0)).any()):
        return coords.moved(padded.index)
    return from_borders(low, high, axis)


def _with_gaps(coords: Coordinates, dim: int, ends: tuple[int, int]) -> Coordinates:
    """Coordinates without cells in the padding along ``dim``."""
    pad = [0, 0] * (coords.index.dim() - 1 - dim) + list(ends)
    return Coordinates(F.pad(coords.index, pad), coords.cells, coords.by_sample)


@places_rule(Effect.MOVES)
def unfolded(call: Call) -> list[Places]:
    """Places after :func:`torch.nn.functional.unfold`; padding continues the grid of the image."""
    bound = call.bound
    tensor = bound["input"]
    padding = bound["padding"]
    rows, columns = (padding, padding) if isinstance(padding, int) else padding
    options = {key: bound[key] for key in ("kernel_size", "dilation", "stride")}
    places = places_of(tensor)
    if rows or columns:
        places = padded_with_zeros(tensor, [columns, columns, rows, rows])
        tensor = tensor.new_empty(()).expand(places.shape)
    # Padding around a crop does not get the cells of the pixels that it replaces.
    fill = not (rows or columns)
    return places_after(lambda t: [F.unfold(t[0], **options)], [tensor], [places], fill=fill)
