"""From the gradient that arrives at an operation to the two small maps of its term."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ElementBias
from captum_tgrad.decomposition.layout import Axis, Dim, Layout
from captum_tgrad.decomposition.plan import channels_first, plan_of
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.decomposition.terms import Magnitudes

# Of a few megabytes: above it, memory allocators give the memory back at every use.
_ELEMENTS_AT_ONCE = 2**20


class SamplesLostError(ValueError):
    """The trace cannot say which sample the elements of a tensor belong to."""


@dataclass(frozen=True)
class Maps:
    """The positive and the negative part of one term, channels summed, and their difference.

    Args:
        positive: ``sum_c ReLU(c)``, shape ``(N, 1, *spatial)``, or ``(N, 1)`` without a place.
        negative: ``sum_c ReLU(-c)``, the same shape.
        score: ``sum c``, shape ``(N,)``.
        magnitudes: The range of ``|c|``, where it was asked for.
    """

    positive: Tensor
    negative: Tensor
    score: Tensor
    magnitudes: Magnitudes | None = None


def maps_of_bias(
    gradient: Tensor, bias: Bias, layout: Layout, samples: int, with_magnitudes: bool = False
) -> Maps:
    """The maps of ``c = gradient * b``.

    Args:
        gradient: ``df/dy`` of the operation's output ``y``.
        bias: The operation's ``b``.
        layout: Where the elements of ``y`` are.
        samples: The batch size.
        with_magnitudes: Whether to find the range of ``|c|``, too.
    """
    step = _rows_at_once(gradient, layout)
    if step is None:
        return _maps_of_rows(gradient, bias, layout, samples, slice(None), with_magnitudes)
    parts = []
    for start in range(0, samples, step):
        rows = slice(start, min(start + step, samples))
        part = Dim.whole(Axis(0, 0, rows.stop - start))
        rest = (part, *layout[1:])
        parts.append(_maps_of_rows(gradient, bias, rest, part.size, rows, with_magnitudes))
    return Maps(
        positive=torch.cat([maps.positive for maps in parts]),
        negative=torch.cat([maps.negative for maps in parts]),
        score=torch.cat([maps.score for maps in parts]),
        magnitudes=_joined([maps.magnitudes for maps in parts if maps.magnitudes is not None]),
    )


def _joined(parts: list[Magnitudes]) -> Magnitudes | None:
    if not parts:
        return None
    return Magnitudes(
        smallest=torch.cat([part.smallest for part in parts]),
        largest=torch.cat([part.largest for part in parts]),
        elements=parts[0].elements,
    )


def _rows_at_once(gradient: Tensor, layout: Layout) -> int | None:
    """How many samples to reduce at a time; None for all of them.

    On a CPU, products of the size of a large activation cost more to allocate than to compute;
    those of a few samples stay in memory that is used again, and in the cache.
    """
    if gradient.is_cpu and gradient.numel() > _ELEMENTS_AT_ONCE and _one_sample_a_row(layout):
        return max(1, _ELEMENTS_AT_ONCE * len(gradient) // gradient.numel())
    return None


def _one_sample_a_row(layout: Layout) -> bool:
    axis = layout[0].axis
    return axis is not None and axis.is_samples and not any(dim.has_sample for dim in layout[1:])


def _maps_of_rows(
    gradient: Tensor,
    bias: Bias,
    layout: Layout,
    samples: int,
    rows: slice,
    with_magnitudes: bool,
) -> Maps:
    length = len(gradient) if gradient.dim() else 1
    gradient = in_full_precision(gradient[rows] if gradient.dim() else gradient)
    if isinstance(bias, ElementBias):
        contribution = in_full_precision(bias.times(gradient, rows, length))
        return maps_of_contribution(
            contribution, layout, samples, with_magnitudes, scale=bias.scale, overwrite=True
        )
    values = in_full_precision(bias.values)
    if not layout[bias.dim].follows_axis and not with_magnitudes:
        rest = layout[: bias.dim] + layout[bias.dim + 1 :]
        signed = _weighted_sum(gradient, values, bias.dim)
        absolute = _weighted_sum(gradient.abs(), values.abs(), bias.dim)
        return _maps(_sum_at_places(signed, rest, samples), _sum_at_places(absolute, rest, samples))
    contribution = gradient * values.reshape(-1, *[1] * (gradient.dim() - bias.dim - 1))
    return maps_of_contribution(contribution, layout, samples, with_magnitudes, overwrite=True)


def maps_of_contribution(
    contribution: Tensor,
    layout: Layout,
    samples: int,
    with_magnitudes: bool = False,
    *,
    scale: float = 1.0,
    overwrite: bool = False,
) -> Maps:
    """The maps of a contribution ``c`` that is given element by element.

    Args:
        contribution: ``c / scale``.
        layout: Where its elements are.
        samples: The batch size.
        with_magnitudes: Whether to find the range of ``|c|``, too.
        scale: What multiplies it: a map is smaller than what it is the sum of.
        overwrite: Whether ``contribution`` is nobody else's any more.
    """
    signed = _sum_at_places(contribution, layout, samples)
    overwrite = overwrite and not _share_memory(signed, contribution)
    absolute = contribution.abs_() if overwrite else contribution.abs()
    maps = _maps(signed * scale, _sum_at_places(absolute, layout, samples) * scale)
    if not with_magnitudes:
        return maps
    by_sample = _by_sample(absolute, layout, samples)
    smallest, largest = by_sample.aminmax(dim=1)
    magnitudes = Magnitudes(smallest * scale, largest * scale, by_sample.shape[1])
    return replace(maps, magnitudes=magnitudes)


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _by_sample(tensor: Tensor, layout: Layout, samples: int) -> Tensor:
    """The elements of each sample, shape ``(N, elements)``, in any order."""
    dims = [dim if dim.has_sample else Dim.channel(dim.size) for dim in layout]
    if plan_of(tuple(dims)).samples != samples:
        raise SamplesLostError
    return channels_first(tensor, tuple(dims)).reshape(samples, -1)


def _maps(signed: Tensor, absolute: Tensor) -> Maps:
    # sum ReLU(c) and sum ReLU(-c) from sum c and sum |c|: two weighted sums instead of two
    # rectified copies of the whole activation. Rounding may leave -eps where the sum is zero.
    return Maps(
        positive=(absolute + signed).div_(2).clamp_min_(0),
        negative=(absolute - signed).div_(2).clamp_min_(0),
        score=signed.flatten(1).sum(1),
    )


def _weighted_sum(tensor: Tensor, weights: Tensor, dim: int) -> Tensor:
    """``sum_c weights[c] * tensor[..., c, ...]`` over the dimension ``dim``."""
    if dim == 1 and tensor.dim() > 2 and tensor.is_contiguous():
        summed = torch.matmul(weights, tensor.flatten(2))
        return summed.reshape(tensor.shape[:1] + tensor.shape[2:])
    return torch.matmul(tensor.movedim(dim, -1), weights)


def _sum_at_places(tensor: Tensor, layout: Layout, samples: int) -> Tensor:
    """Sums over all that is neither sample nor place: ``(N, 1, *spatial)`` or ``(N, 1)``."""
    for position, dim in enumerate(layout):
        if len(dim.segments) > 1:
            return _sum_of_segments(tensor, layout, samples, position)
    plan = plan_of(layout)
    if plan.samples != samples:
        raise SamplesLostError
    tensor = tensor.reshape(plan.sizes)
    if plan.summed == (1,):
        tensor = _weighted_sum(tensor, tensor.new_ones(plan.sizes[1]), 1)
    elif plan.summed:
        tensor = tensor.sum(plan.summed)
    tensor = tensor.permute(plan.order).reshape(samples, 1, *plan.spatial)
    if plan.shifts:
        tensor = tensor.roll([-shift for _, shift in plan.shifts], [dim for dim, _ in plan.shifts])
    return tensor


def _sum_of_segments(tensor: Tensor, layout: Layout, samples: int, position: int) -> Tensor:
    total, start = None, 0
    for segment in layout[position].segments:
        dim = Dim((segment,))
        part = _sum_at_places(
            tensor.narrow(position, start, dim.size),
            (*layout[:position], dim, *layout[position + 1 :]),
            samples,
        )
        total = part if total is None else _add_maps(total, part)
        start += dim.size
    if total is None:  # a dimension without elements
        raise SamplesLostError
    return total


def _add_maps(one: Tensor, other: Tensor) -> Tensor:
    """The sum of two maps; what has no place in one of them is spread evenly over the other's."""
    if one.numel() < other.numel():
        one, other = other, one
    if one.shape == other.shape:
        return one + other
    cells = one[0].numel()
    total = other.flatten(1).sum(1)
    return one + (total / cells).reshape(-1, *[1] * (one.dim() - 1))
