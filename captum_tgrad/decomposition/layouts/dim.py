"""One dimension of a tensor, as a product of steps along the axes of the input.

A :class:`Dim` is a concatenation of *segments* (usually one; a class token in front of a grid makes
two), and each segment is a product of *factors*, slowest first (usually one; a flattened grid has
two). A factor counts along one axis of the input in steps, or along no axis at all, which is what a
channel does. This is the algebra of einops' patterns, kept symbolic so that following a tensor
costs no arithmetic on its elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


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
        padding: How many of the cells are beside the image, before and after it.
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


@dataclass(frozen=True)
class Window:
    """What a cell of a convolution or a pooling is computed from, along one axis.

    Args:
        offset: The middle of what the first cell is computed from, in cells of the old grid.
        stride: From there to the middle of the next.
    """

    offset: float
    stride: float


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
                return self.resampled(length, Window(start, step))
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
        """The dimension with ``before`` and ``after`` elements added, or taken away if negative."""
        if before < 0 or after < 0:
            start, stop = max(-before, 0), self.size - max(-after, 0)
            return self.sliced(start, stop - start).padded(max(before, 0), max(after, 0))
        axis = self.axis
        size = self.size + before + after
        if axis is None or axis.is_samples or axis.shift:
            return Dim.channel(size)
        padding = (axis.padding[0] + before, axis.padding[1] + after)
        return Dim.whole(axis.resampled(size, padding))

    def without_padding(self) -> Dim:
        """The dimension with all of its cells on the image."""
        axis = self.axis
        return self if axis is None else Dim.whole(replace(axis, padding=(0, 0)))

    def rolled(self, shift: int) -> Dim:
        """The dimension after ``torch.roll`` by ``shift``."""
        axis = self.axis
        if axis is None or axis.is_samples:
            return self if not self.follows_axis else Dim.channel(self.size)
        return Dim.whole(replace(axis, shift=(axis.shift + shift) % axis.extent))

    def resampled(self, extent: int, window: Window | None = None) -> Dim:
        """The dimension after an operation that computes a new grid over the same image.

        Args:
            extent: How many cells the new grid has.
            window: What of the old grid a new cell is computed from; None if the new grid covers
                the old one evenly.
        """
        axis = self.axis
        if extent == 1 or axis is None or axis.is_samples or axis.shift:
            return Dim.channel(extent)
        if axis.padding == (0, 0):
            return Dim.whole(axis.resampled(extent))
        padding = _padding_on_new_grid(axis, extent, window)
        return Dim.whole(axis.resampled(extent, padding)) if padding else Dim.channel(extent)


def _padding_on_new_grid(axis: Axis, extent: int, window: Window | None) -> tuple[int, int] | None:
    """How many of the new cells have their middle beside the image; None if all of them have."""
    if window is None:
        stride = axis.extent / extent
        window = Window((stride - 1) / 2, stride)
    first, last = axis.padding[0] - 0.5, axis.extent - axis.padding[1] - 0.5
    before = max(math.ceil((first - window.offset) / window.stride), 0)
    after = max(extent - 1 - math.floor((last - window.offset) / window.stride), 0)
    return (before, after) if before + after < extent else None
