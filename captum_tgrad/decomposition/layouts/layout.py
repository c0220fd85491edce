"""Which sample and which place of the image each element of a tensor belongs to.

A network moves its activations around: it flattens a grid to tokens, puts a class token in front,
folds windows into the batch dimension, keeps channels last. To say where a bias acts, and on which
sample, the trace follows the *axes* of the input (its samples and its spatial axes) through every
operation that moves data. Nothing is ever guessed from a shape alone.

A :data:`Layout` describes one tensor: a :class:`~captum_tgrad.decomposition.layouts.dim.Dim` for
each of its dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from captum_tgrad.decomposition.layouts.dim import Axis, Dim, Factor, Segment

Layout = tuple[Dim, ...]


class UnknownLayoutError(Exception):
    """No rule says where the elements of this form of the call's output are."""


def input_layout(shape: Sequence[int]) -> Layout:
    """The layout of an input: samples, channels (or features), then the spatial axes."""
    spatial = shape[2:]
    dims = [Dim.whole(Axis(0, 0, shape[0]))]
    dims += [Dim.channel(size) for size in shape[1:2]]
    dims += [Dim.whole(Axis(len(spatial), index, size)) for index, size in enumerate(spatial)]
    return tuple(dims)


def unknown_layout(shape: Sequence[int]) -> Layout:
    """The layout of a tensor of which neither the samples nor the places are known."""
    return tuple(Dim.channel(size) for size in shape)


def broadcast(layouts: Iterable[Layout], shape: Sequence[int]) -> Layout:
    """The layout of an elementwise operation between tensors of these layouts.

    A channel that is combined with an axis takes the axis' place: what is added to a token
    is at that token. Two different axes in one dimension contradict each other: the order is lost.
    """
    return _broadcast(tuple(layouts), tuple(shape))


@lru_cache(maxsize=4096)
def _broadcast(layouts: tuple[Layout, ...], shape: tuple[int, ...]) -> Layout:
    layouts = tuple(layout for layout in layouts if len(layout) <= len(shape))
    dims = []
    for position, size in enumerate(shape):
        candidates = []
        for layout in layouts:
            own = position - (len(shape) - len(layout))
            if own >= 0 and layout[own].size == size and layout[own].follows_axis:
                candidates.append(layout[own])
        if not candidates:
            dims.append(Dim.channel(size))
        elif all(dim == candidates[0] for dim in candidates):
            dims.append(candidates[0])
        else:
            dims.append(Dim.scrambled(size))
    return tuple(dims)


def reshape(layout: Layout, shape: Sequence[int]) -> Layout:
    """The layout after a reshape (in row-major order) to ``shape``.

    Dimensions are matched in the smallest groups of equal size; within a group the factors are
    laid end to end and cut again. Where a cut does not fall between whole steps, the group's
    places are no longer known.
    """
    dims: list[Dim] = []
    old, new = list(layout), list(shape)
    while old or new:
        group = [old.pop(0)] if old else []
        sizes = [new.pop(0)] if new else []
        while (held := math.prod(dim.size for dim in group)) != (wanted := math.prod(sizes)):
            if held < wanted and old:
                group.append(old.pop(0))
            elif new:
                sizes.append(new.pop(0))
            else:  # an empty tensor: nothing to place
                return unknown_layout(shape)
        dims += _regroup(group, sizes)
    return tuple(dims)


def _regroup(group: list[Dim], sizes: list[int]) -> list[Dim]:
    if len(sizes) == 1:
        real = [dim for dim in group if dim.size != 1]
        if len(real) == 1:
            return real
    elif sum(size != 1 for size in sizes) == 1 and len(group) == 1:
        return [group[0] if size != 1 else Dim.channel(1) for size in sizes]
    # A prefix token has no place in a product of axes: such a dimension keeps only its size.
    plain = [dim if len(dim.segments) == 1 else Dim.channel(dim.size) for dim in group]
    factors = [factor for dim in plain for factor in dim.segments[0]]
    dims = []
    for size in sizes:
        segment = _take(factors, size)
        if segment is None:
            return [Dim.channel(size) for size in sizes]
        dims.append(Dim((segment,)))
    return dims


def _take(factors: list[Factor], size: int) -> Segment | None:
    """Removes factors worth ``size`` elements from the front; None if they cannot be cut so."""
    taken: list[Factor] = []
    while size != 1:
        factor = factors.pop(0)
        if size % factor.size == 0:
            size //= factor.size
        elif factor.size % size == 0:
            factor, rest = factor.split(size)
            factors.insert(0, rest)
            size = 1
        else:
            return None
        taken.append(factor)
    return _merged(taken)


def _continues(slow: Factor, fast: Factor) -> bool:
    """Whether the two count as one factor would."""
    same_axis = slow.axis == fast.axis
    return same_axis and (fast.axis is None or slow.stride == fast.size * fast.stride)


def _merged(factors: list[Factor]) -> Segment:
    """Joins neighbouring factors that count on where the other stops."""
    merged: list[Factor] = []
    for factor in factors:
        last = merged[-1] if merged else None
        if last is not None and _continues(last, factor):
            merged[-1] = Factor(last.size * factor.size, factor.axis, factor.stride)
        else:
            merged.append(factor)
    return tuple(merged)
