"""What a layout means for a tensor's elements: how to bring samples, channels and places apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from captum_tgrad.decomposition.layouts.dim import Axis, Factor
from captum_tgrad.decomposition.layouts.layout import Layout


@dataclass(frozen=True)
class Plan:
    """How to sum a tensor of one layout: reshape to ``sizes``, sum, permute, reshape, roll.

    Args:
        sizes: The tensor's shape with every factor of its layout as a dimension of its own.
        summed: The dimensions among these that follow neither the samples nor a spatial axis.
        order: What to permute the others by, so that samples come first, then space.
        samples: The batch size.
        spatial: The extents of the spatial axes; 1 where the tensor does not have one of them.
        shifts: By how much each dimension of ``(N, 1, *spatial)`` is to be rolled back.
        pads: Which dimensions of it have cells beside the image, and how many before and after.
    """

    sizes: tuple[int, ...]
    summed: tuple[int, ...]
    order: tuple[int, ...]
    samples: int
    spatial: tuple[int, ...]
    shifts: tuple[tuple[int, int], ...]
    pads: tuple[tuple[int, int, int], ...]

    @property
    def in_order(self) -> bool:
        """Whether there is nothing to permute."""
        return self.order == tuple(range(len(self.order)))


@lru_cache(maxsize=4096)
def first_of_several_segments(layout: Layout) -> int | None:
    """The first dimension that is several segments, one after the other; None if there is none."""
    return next((i for i, dim in enumerate(layout) if len(dim.segments) > 1), None)


@lru_cache(maxsize=4096)
def plan_of(layout: Layout) -> Plan:
    """The plan for a layout whose dimensions have one segment each."""
    factors = [factor for dim in layout for factor in dim.segments[0]]
    complete = _complete_axes(factors)
    samples = next((axis.extent for axis in complete if axis.is_samples), 1)
    rank = max((axis.rank for axis in complete), default=0)
    axes = {(axis.rank, axis.index): axis for axis in complete}
    ordered = [axes[key] for key in [(0, 0), *((rank, i) for i in range(rank))] if key in axes]
    kept = [position for axis in ordered for position in complete[axis]]
    remaining = sorted(kept)
    extents = [axes[rank, i].extent if (rank, i) in axes else 1 for i in range(rank)]
    return Plan(
        sizes=tuple(factor.size for factor in factors),
        summed=tuple(position for position in range(len(factors)) if position not in kept),
        order=tuple(remaining.index(position) for position in kept),
        samples=samples,
        spatial=tuple(extents),
        shifts=tuple(
            (2 + i, axes[rank, i].shift)
            for i in range(rank)
            if (rank, i) in axes and axes[rank, i].shift
        ),
        pads=tuple(
            (2 + i, *axes[rank, i].padding)
            for i in range(rank)
            if (rank, i) in axes and axes[rank, i].padding != (0, 0)
        ),
    )


def _complete_axes(factors: list[Factor]) -> dict[Axis, list[int]]:
    """The axes that the factors cover exactly once, with the factors' positions, slowest first.

    An axis that appears twice (the queries and the keys of an attention map) has two places for
    each element, and one that appears in part has none: both are left out.
    """
    found: dict[tuple[int, int], list[int]] = {}
    for position, factor in enumerate(factors):
        if factor.axis is not None:
            found.setdefault((factor.axis.rank, factor.axis.index), []).append(position)
    complete = {}
    for positions in found.values():
        positions.sort(key=lambda position: -factors[position].stride)
        axis = factors[positions[0]].axis
        steps = [factors[position].size for position in positions]
        strides = [math.prod(steps[i + 1 :]) for i in range(len(steps))]
        if (
            axis is not None
            and axis.is_known
            and all(factors[position].axis == axis for position in positions)
            and math.prod(steps) == axis.extent
            and strides == [factors[position].stride for position in positions]
        ):
            complete[axis] = positions
    return complete


def channels_first(tensor: Tensor, layout: Layout) -> Tensor:
    """``tensor`` as ``(N, channels, *spatial)``, whatever follows no axis counted as channels."""
    plan = plan_of(layout)
    tensor = tensor.reshape(plan.sizes).permute(_permutation(plan))
    tensor = tensor.reshape(plan.samples, *plan.spatial, -1).movedim(-1, 1)
    return _rolled(tensor, plan, -1)


def as_laid_out(tensor: Tensor, layout: Layout) -> Tensor:
    """The inverse of :func:`channels_first`."""
    plan = plan_of(layout)
    permutation = _permutation(plan)
    tensor = _rolled(tensor, plan, 1).movedim(1, -1)
    tensor = tensor.reshape([plan.sizes[position] for position in permutation])
    inverse = [permutation.index(position) for position in range(len(permutation))]
    return tensor.permute(inverse).reshape([dim.size for dim in layout])


def _permutation(plan: Plan) -> list[int]:
    """Samples, then space, then what is neither."""
    kept = [position for position in range(len(plan.sizes)) if position not in plan.summed]
    return [*(kept[position] for position in plan.order), *plan.summed]


def _rolled(tensor: Tensor, plan: Plan, direction: int) -> Tensor:
    for dim, shift in plan.shifts:
        tensor = tensor.roll(direction * shift, dim)
    return tensor
