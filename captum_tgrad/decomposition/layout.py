"""Which sample and which place of the image each element of a tensor belongs to.

A network moves its activations around: it flattens a grid to tokens, puts a class token in front,
folds windows into the batch dimension, keeps channels last. To say where a bias acts, and on which
sample, the trace follows the *axes* of the input (its samples and its spatial axes) through every
operation that moves data. Nothing is ever guessed from a shape alone.

A :class:`Layout` describes one tensor. Each of its dimensions is a concatenation of *segments*
(usually one; a class token in front of a grid makes two), and each segment is a product of
*factors*, slowest first (usually one; a flattened grid has two). A factor counts along one axis of
the input in steps, or along no axis at all, which is what a channel does. This is the algebra of
einops' patterns, kept symbolic so that following a tensor costs no arithmetic on its elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache


@dataclass(frozen=True)
class Axis:
    """An axis of the input at the resolution that a tensor has it.

    Args:
        rank: How many spatial axes the input has to which this one belongs; 0 for the samples,
            negative where the order of the places is lost. A signal and an image that enter one
            network thus never share an axis.
        index: The number of the axis among those.
        extent: How many cells the axis has at this resolution.
        shift: By how many cells it has been rolled (shifted windows).
        padding: Cells before and after the image that were padded and not yet cropped again.
    """

    rank: int
    index: int
    extent: int
    shift: int = 0
    padding: tuple[int, int] = (0, 0)

    @property
    def is_samples(self) -> bool:
        """Whether the axis counts samples rather than places."""
        return self.rank == 0

    @property
    def is_known(self) -> bool:
        """Whether it is known which sample or place each step is."""
        return self.rank >= 0

    def resampled(self, extent: int, padding: tuple[int, int] = (0, 0)) -> Axis:
        """The same axis at another resolution."""
        return Axis(self.rank, self.index, extent, padding=padding)


@dataclass(frozen=True)
class Factor:
    """``size`` steps of ``stride`` cells along ``axis``; a channel, along no axis, if None."""

    size: int
    axis: Axis | None = None
    stride: int = 1

    def split(self, outer: int) -> tuple[Factor, Factor]:
        """The factor as ``outer`` slow steps times the remaining fast ones."""
        inner = self.size // outer
        return (
            Factor(outer, self.axis, self.stride * inner),
            Factor(inner, self.axis, self.stride),
        )


Segment = tuple[Factor, ...]
_SCRAMBLED = -1


def _segment_size(segment: Segment) -> int:
    return math.prod(factor.size for factor in segment)


@dataclass(frozen=True)
class Dim:
    """One dimension of a tensor: segments, one after the other."""

    segments: tuple[Segment, ...]
    size: int = field(init=False, compare=False)
    _hash: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(map(_segment_size, self.segments)))
        object.__setattr__(self, "_hash", hash(self.segments))

    def __hash__(self) -> int:
        return self._hash  # layouts are looked up in caches at every operation

    @staticmethod
    def channel(size: int) -> Dim:
        """A dimension that follows no axis of the input."""
        return Dim(((Factor(size),) if size != 1 else (),))

    @staticmethod
    def whole(axis: Axis) -> Dim:
        """A dimension that is one axis, entirely and in order."""
        return Dim(((Factor(axis.extent, axis),) if axis.extent != 1 else (),))

    @staticmethod
    def scrambled(size: int) -> Dim:
        """A dimension of places in an unknown order (flipped, sorted, two that disagree).

        Unlike a channel, it does not take the place of what it is added to.
        """
        return Dim.whole(Axis(_SCRAMBLED, 0, size))

    @staticmethod
    def joined(dims: Sequence[Dim]) -> Dim:
        """The dimension that concatenates ``dims``; channels next to channels are channels."""
        if not any(dim.follows_axis for dim in dims):
            return Dim.channel(sum(dim.size for dim in dims))
        return Dim(tuple(segment for dim in dims for segment in dim.segments))

    @property
    def axis(self) -> Axis | None:
        """The axis that this dimension is entirely and in order, if it is one."""
        if len(self.segments) == 1 and len(self.segments[0]) == 1:
            (factor,) = self.segments[0]
            if factor.axis is not None and factor.size == factor.axis.extent:
                return factor.axis
        return None

    @property
    def follows_axis(self) -> bool:
        """Whether any element of this dimension has a known sample or place."""
        return any(factor.axis is not None for segment in self.segments for factor in segment)

    @property
    def has_sample(self) -> bool:
        """Whether this dimension tells samples apart."""
        return any(
            factor.axis is not None and factor.axis.is_samples
            for segment in self.segments
            for factor in segment
        )

    def sliced(self, start: int, length: int, step: int = 1) -> Dim:
        """The dimension after ``[start : ... : step]`` left ``length`` of its elements."""
        if (start, length, step) == (0, self.size, 1):
            return self
        if step == 1:
            whole_segments = self._segments_between(start, start + length)
            if whole_segments is not None:
                return Dim(whole_segments)
        axis = self.axis
        if axis is not None and not axis.is_samples and axis.shift == 0:
            if step == 1:
                before, after = axis.padding
                crop = (start, axis.extent - start - length)
                if crop[0] <= before and crop[1] <= after:
                    left = (before - crop[0], after - crop[1])
                    return Dim.whole(axis.resampled(length, left))
            elif axis.extent == length * step and start < step:
                return Dim.whole(axis.resampled(length))
        return Dim.channel(length)

    def _segments_between(self, start: int, stop: int) -> tuple[Segment, ...] | None:
        offset, inside = 0, []
        for segment in self.segments:
            end = offset + _segment_size(segment)
            if start < end and offset < stop:
                if start <= offset and end <= stop:
                    inside.append(segment)
                elif all(factor.axis is None for factor in segment):
                    inside.append((Factor(min(end, stop) - max(offset, start)),))
                else:
                    return None
            offset = end
        return tuple(inside)

    def padded(self, before: int, after: int) -> Dim:
        """The dimension with ``before`` and ``after`` elements added at its ends."""
        axis = self.axis
        size = self.size + before + after
        if axis is None or axis.is_samples or axis.shift:
            return Dim.channel(size)
        padding = (axis.padding[0] + before, axis.padding[1] + after)
        return Dim.whole(axis.resampled(size, padding))

    def rolled(self, shift: int) -> Dim:
        """The dimension after ``torch.roll`` by ``shift``."""
        axis = self.axis
        if axis is None or axis.is_samples:
            return self if not self.follows_axis else Dim.channel(self.size)
        return Dim.whole(replace(axis, shift=(axis.shift + shift) % axis.extent))

    def resampled(self, extent: int) -> Dim:
        """The dimension after an operation that computes a new grid over the same image."""
        axis = self.axis
        if extent == 1 or axis is None or axis.is_samples or axis.shift:
            return Dim.channel(extent)
        return Dim.whole(axis.resampled(extent))


Layout = tuple[Dim, ...]


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
