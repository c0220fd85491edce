"""Places after a convolution, a pooling or a resizing, which compute a new grid."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates, OnAxis, from_borders
from captum_tgrad.decomposition.places.copies import copies_refined
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of
from captum_tgrad.decomposition.places.places import Pair, Places, make_places
from captum_tgrad.decomposition.places.regridding import Window, regridded
from captum_tgrad.decomposition.places.rules.mixing import summed_along
from captum_tgrad.decomposition.places.sums import mixed_on_axes
from captum_tgrad.decomposition.places.whole_grid import windows_joined

Windows = Mapping[int, Window | None]
"""The receptive field along each dimension of a grid; None if the new cells cover it evenly."""


def convolved(call: Call) -> list[Places]:
    """Places after a convolution, which mixes channels within each group."""
    bound, (output,) = call.bound, call.returned
    if not bound["input"].requires_grad:
        raise NoRuleError  # its weight has no grid
    windows = _windows(call)
    channel = output.dim() - len(windows) - 1
    places = _windows_mixed(bound["input"], output.shape, windows)
    coordinates = list(windows_joined(places).pairs) if places else []
    in_groups = _in_groups(coordinates, channel, bound["groups"], output.shape[channel])
    return [on_new_grid(in_groups, output.shape, windows)]


def pooled(call: Call) -> list[Places]:
    """Places after a pooling."""
    tensor, (output, *_) = call.tensors[0], call.returned
    windows = _windows(call)
    places = _windows_mixed(tensor, output.shape, windows)
    if places:
        places = on_new_grid(windows_joined(places).pairs, output.shape, windows)
    return [places or make_places(output.shape)] * len(call.returned)


def _windows_mixed(tensor: Tensor, shape: Sequence[int], windows: Windows) -> Places | None:
    """The places of a tensor after those dimensions were mixed that have a single window.

    The other dimensions, which get a new grid, keep their size. ``shape`` is that of the result.
    """
    over = {
        dim for dim, window in windows.items() if _holds_all(window, tensor.shape[dim], shape[dim])
    }
    if not over:
        return places_of(tensor)
    return summed_along(tensor, over, [1 if d in over else n for d, n in enumerate(tensor.shape)])


def _holds_all(window: Window | None, old: int, new: int) -> bool:
    """Whether the only window of a pooling along a dimension holds all elements."""
    return new == 1 and (window is None or window.reach == window.offset == (old - 1) / 2)


def on_new_grid(coordinates: Iterable[Pair], shape: Sequence[int], windows: Windows) -> Places:
    """Places after dimensions were replaced by new grids with these windows."""

    def regrid(axis: Axis, coords: Coordinates | None) -> Coordinates | None:
        for dim, window in windows.items():
            if coords is not None and dim in coords.dims:
                coords = regridded(coords, dim, shape[dim], window, axis)
        return coords

    # Copies along the other dimensions, as of a convolution in groups, are channels.
    refined = copies_refined(
        coordinates, zeros_too=not all(windows.values()), first=min(windows, default=1)
    )
    return make_places(shape, [(axis, regrid(axis, coords)) for axis, coords in refined])


def _in_groups(
    coordinates: Iterable[OnAxis], channel: int, groups: int, channels: int
) -> list[OnAxis]:
    """The coordinates after a convolution mixed the channels within each group."""
    inside = []
    for axis, coords in coordinates:
        shape = list(coords.index.shape)
        count = groups if channel in coords.dims else 1
        split = coords.index.reshape([*shape[:channel], count, -1, *shape[channel + 1 :]])
        inside.append((axis, Coordinates(split, coords.cells, coords.by_sample)))
    parts = []
    for axis, left in mixed_on_axes(inside, [channel + 1]):
        index = left.index.squeeze(channel + 1)
        if channel in left.dims:
            index = index.repeat_interleave(channels // groups, channel)
        if (part := left.moved(index)) is not None:
            parts.append((axis, part))
    return parts


def rank_of(operation: str) -> int:
    """The number of dimensions in an operation's name: 2 for ``conv2d``; 0 if it has none."""
    return next((int(character) for character in operation if character.isdigit()), 0)


def _windows(call: Call) -> Windows:
    """The windows of a convolution, a pooling or a fold."""
    name, rank_of_output = call.name, call.returned[0].dim()
    rank = 2 if name == "fold" else rank_of(name)
    dims = range(rank_of_output - rank, rank_of_output)
    if not name.startswith(("conv", "deform_conv", "max_pool", "avg_pool", "fold")):
        return dict.fromkeys(dims)
    bound = call.bound
    kernel: Any = tuple(bound["weight"].shape[2:]) if "conv" in name else bound["kernel_size"]
    if name == "deform_conv2d":
        stride, padding, dilation = (
            tuple(bound[f"{option}_{side}"] for side in "hw")
            for option in ("stride", "pad", "dilation")
        )
    else:
        stride, padding = bound["stride"] or kernel, bound["padding"]
        dilation = bound.get("dilation", 1)
    kernel, stride, dilation = (_per_dimension(each, rank) for each in (kernel, stride, dilation))
    if isinstance(padding, str):  # "same" keeps the size, "valid" does not pad
        padding = tuple(
            (size - 1) * step / 2 if padding == "same" else 0
            for size, step in zip(kernel, dilation, strict=True)
        )
    sizes = zip(kernel, stride, _per_dimension(padding, rank), dilation, strict=True)
    windows = [Window.of_kernel(*each) for each in sizes]
    if name.startswith(("conv_transpose", "fold")):
        windows = [window.transposed() for window in windows]
    return dict(zip(dims, windows, strict=True))


def _per_dimension(option: Any, rank: int) -> tuple[float, ...]:
    """Expands an option that is one number for all dimensions."""
    if isinstance(option, (int, float)):
        return (option,) * rank
    return tuple(option) * rank if len(option) == 1 else tuple(option)


def resized(call: Call) -> list[Places]:
    """Places after resizing: the new cells cover the old ones evenly."""
    tensor, (output,) = call.tensors[0], call.returned
    places = windows_joined(places_of(tensor) or make_places(tensor.shape))
    return [on_new_grid(places.pairs, output.shape, dict.fromkeys(range(2, output.dim())))]


def folded(call: Call) -> list[Places]:
    """Places after ``torch.nn.functional.fold``: the mean of the cells of the summands.

    If all elements of a block have the same cell, the places are those after a transposed
    convolution.
    """
    bound, (output,) = call.bound, call.returned
    tensor = bound["input"]
    options = {
        key: bound[key] for key in ("output_size", "kernel_size", "dilation", "padding", "stride")
    }
    if not any(tensor.dim() - 2 in coords.dims for _, coords in coordinates_of(tensor)):
        return [on_new_grid(_in_blocks(call, output), output.shape, _windows(call))]

    def move(axis: Axis, coords: Coordinates) -> Coordinates | None:
        if not coords.dims:
            return coords.moved(coords.index.reshape([1] * output.dim()))
        low, high = (border.expand(tensor.shape) for border in coords.borders())
        has = coords.index.expand(tensor.shape) > 0
        count = F.fold(has.double(), **options)
        first, last = (
            torch.where(count > 0, F.fold(torch.where(has, b, 0), **options) / count, empty)
            for b, empty in ((low, torch.inf), (high, -torch.inf))
        )
        return from_borders(first, last, axis)

    return [
        make_places(
            output.shape, [(axis, move(axis, coords)) for axis, coords in coordinates_of(tensor)]
        )
    ]


def _in_blocks(call: Call, output: Tensor) -> list[Pair]:
    """The coordinates of the input of ``fold``, with a dimension for each side of its blocks."""
    bound, names = call.bound, ("kernel_size", "dilation", "padding", "stride")
    options = (_per_dimension(bound[name], 2) for name in names)
    counts = [
        int((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
        for size, kernel, dilation, padding, stride in zip(output.shape[-2:], *options, strict=True)
    ]
    found: list[Pair] = []
    for axis, coords in coordinates_of(bound["input"]):
        *front, columns = coords.index.shape
        sides = counts if columns > 1 else [1, 1]
        found.append((axis, coords.moved(coords.index.reshape(*front, *sides))))
    return found


def channels_as_places(
    call: Call, with_positions: Collection[int]
) -> tuple[Axis, Axis | None] | None:
    """The channel axis that the network uses as positions, and the axis it uses as channels.

    Convolutions, linear and recurrent layers mix channels. If one mixes a spatial axis of an input
    instead, the two axes are swapped. A convolution may also slide along the channels without an
    axis in their place, which is then None. It does not if each position has one of the channels,
    such as the brightest. A linear layer that treats the features of a table alike, as those of
    FT-Transformer, uses them as positions. So does one that mixes positions if these have further
    features, as in a network that works on each channel alone.

    Args:
        call: The call of such a layer.
        with_positions: The numbers of the inputs that have spatial axes.
    """
    tensor = call.tensors[0]
    coordinates = list(coordinates_of(tensor))
    slides = call.name.startswith("conv")
    dim = tensor.dim() - (rank_of(call.name) + 1 if slides else 1)
    of_steps = call.name.endswith("_cell")  # each call gets one position of the axis
    for axis, coords in coordinates:
        is_channel = not axis.is_place and axis.input >= 0 and axis.extent > 1
        if not is_channel or dim in coords.dims or not (coords.dims or of_steps):
            continue
        for other, own in coordinates:
            if other.is_place and other.input == axis.input and own.dims == (dim,):
                are_all = tensor.numel() <= math.prod(len(each.cells) for _, each in coordinates)
                return axis, other if are_all else None
        along = {d for d in coords.dims if d > dim}
        if slides and along and not along <= _of_positions(coordinates):
            return axis, None
        if not slides and axis.input not in with_positions:
            return axis, None
    return None


def _of_positions(coordinates: Sequence[OnAxis]) -> set[int]:
    """The dimensions along which each element has a position of its own."""
    return {
        own.dims[0]
        for axis, own in coordinates
        if axis.is_spatial and len(own.dims) == 1 and len(own.cells) == own.index.count_nonzero()
    }
