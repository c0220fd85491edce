"""From the gradient that arrives at an operation to the two small maps of its term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.biases.bias import Bias
from captum_tgrad.decomposition.blocks import Split, split_of
from captum_tgrad.decomposition.layouts.dim import Dim
from captum_tgrad.decomposition.layouts.layout import Layout
from captum_tgrad.decomposition.layouts.plan import (
    Plan,
    channels_first,
    first_of_several_segments,
    plan_of,
)
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.decomposition.redistribute import redistribute
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.terms import Magnitudes


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


@dataclass(frozen=True)
class Sums:
    """``sum_c c`` and ``sum_c |c|``, from which the maps follow.

    Args:
        signed: Shape ``(N, 1, *spatial)``, or ``(N, 1)`` without a place.
        absolute: The same shape.
        magnitudes: The range of ``|c|``, where it was asked for.
    """

    signed: Tensor
    absolute: Tensor
    magnitudes: Magnitudes | None = None

    def to(self, device: torch.device) -> Sums:
        """The same on another device."""
        if self.signed.device == device:
            return self
        magnitudes = self.magnitudes and self.magnitudes.to(device)
        return Sums(self.signed.to(device), self.absolute.to(device), magnitudes)


def maps_of_sums(terms: Sequence[Sums]) -> list[Maps]:
    """The maps of several terms; those of one shape at once, as there are many small ones."""
    groups: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for number, sums in enumerate(terms):
        groups.setdefault((sums.signed.shape, sums.signed.dtype), []).append(number)
    maps: dict[int, Maps] = {}
    for numbers in groups.values():
        signed = torch.stack([terms[number].signed for number in numbers])
        absolute = torch.stack([terms[number].absolute for number in numbers])
        # sum ReLU(c) and sum ReLU(-c) from sum c and sum |c|: two weighted sums instead of two
        # rectified copies of the activation. Rounding may leave -eps where the sum is zero.
        positive = (absolute + signed).div_(2).clamp_min_(0)
        negative = (absolute - signed).div_(2).clamp_min_(0)
        score = signed.flatten(2).sum(2)
        for place, number in enumerate(numbers):
            maps[number] = Maps(
                positive[place], negative[place], score[place], terms[number].magnitudes
            )
    return [maps[number] for number in range(len(terms))]


def sums_of_bias(
    gradient: Tensor,
    bias: Bias,
    layout: Layout,
    samples: int,
    scratch: Scratch,
    with_magnitudes: bool = False,
) -> Sums:
    """The sums of ``c = gradient * b``.

    Args:
        gradient: ``df/dy`` of the operation's output ``y``.
        bias: The operation's ``b``.
        layout: Where the elements of ``y`` are.
        samples: The batch size.
        scratch: Lends the memory for ``c``.
        with_magnitudes: Whether to find the range of ``|c|``, too.
    """
    split = split_of(gradient, layout, bias.elementwise)
    if split is None:
        contribution = bias.times(in_full_precision(gradient), scratch)
        return _sums(contribution, layout, samples, with_magnitudes, bias.scale, overwrite=True)
    blocks = []
    for start in range(0, gradient.shape[split.dim], split.length):
        length = min(split.length, gradient.shape[split.dim] - start)
        blocks.append(
            sums_of_bias(
                gradient.narrow(split.dim, start, length),
                bias.part(split.dim, start, length, gradient.shape),
                split.layout(layout, length),
                length if split.of_samples else samples,
                scratch,
                with_magnitudes,
            )
        )
    return Sums(
        split.join([block.signed for block in blocks], layout),
        split.join([block.absolute for block in blocks], layout),
        _joined([block.magnitudes for block in blocks if block.magnitudes], split),
    )


def maps_of_contribution(contribution: Tensor, layout: Layout, samples: int) -> Maps:
    """The maps of a contribution ``c`` that is given element by element."""
    return maps_of_sums([_sums(contribution, layout, samples)])[0]


def _joined(parts: list[Magnitudes], split: Split) -> Magnitudes | None:
    if not parts:
        return None
    smallest, largest = [p.smallest for p in parts], [p.largest for p in parts]
    if split.of_samples:
        return Magnitudes(torch.cat(smallest), torch.cat(largest), parts[0].elements)
    return Magnitudes(
        smallest=torch.stack(smallest).amin(0),
        largest=torch.stack(largest).amax(0),
        elements=sum(part.elements for part in parts),
    )


def _sums(
    contribution: Tensor,
    layout: Layout,
    samples: int,
    with_magnitudes: bool = False,
    scale: float = 1.0,
    overwrite: bool = False,
) -> Sums:
    """The sums of ``scale * contribution``, which may be overwritten if it is nobody else's."""
    signed = _own(_sum_at_places(contribution, layout, samples), contribution)
    absolute = contribution.abs_() if overwrite else contribution.abs()
    magnitudes, size = None, abs(scale)
    if with_magnitudes:
        by_sample = _by_sample(absolute, layout, samples)
        smallest, largest = by_sample.aminmax(dim=1)
        magnitudes = Magnitudes(smallest * size, largest * size, by_sample.shape[1])
    absolute = _own(_sum_at_places(absolute, layout, samples), absolute)
    if scale == 1:
        return Sums(signed, absolute, magnitudes)
    return Sums(signed * scale, absolute * size, magnitudes)


def _own(sums: Tensor, contribution: Tensor) -> Tensor:
    """Sums that the next product does not overwrite: where nothing was summed, they are a view."""
    same = sums.untyped_storage().data_ptr() == contribution.untyped_storage().data_ptr()
    return sums.clone() if same else sums


def _by_sample(tensor: Tensor, layout: Layout, samples: int) -> Tensor:
    """The elements of each sample, shape ``(N, elements)``, in any order."""
    dims = [dim if dim.has_sample else Dim.channel(dim.size) for dim in layout]
    if plan_of(tuple(dims)).samples != samples:
        raise SamplesLostError
    return channels_first(tensor, tuple(dims)).reshape(samples, -1)


def _sum_at_places(tensor: Tensor, layout: Layout, samples: int) -> Tensor:
    """Sums over all that is neither sample nor place: ``(N, 1, *spatial)`` or ``(N, 1)``."""
    position = first_of_several_segments(layout)
    if position is not None:
        return _sum_of_segments(tensor, layout, samples, position)
    plan = plan_of(layout)
    if plan.samples != samples:
        raise SamplesLostError
    tensor = tensor.reshape(plan.sizes)
    if plan.summed:
        tensor = tensor.sum(plan.summed)
    if not plan.in_order:
        tensor = tensor.permute(plan.order)
    tensor = tensor.reshape(samples, 1, *plan.spatial)
    if plan.shifts:
        tensor = tensor.roll([-shift for _, shift in plan.shifts], [dim for dim, _ in plan.shifts])
    return _without_padding(tensor, plan) if plan.pads else tensor


def _without_padding(cells: Tensor, plan: Plan) -> Tensor:
    """What is beside the image has no place on it, and is spread evenly."""
    image = cells
    for dim, before, after in plan.pads:
        image = image.narrow(dim, before, image.shape[dim] - before - after)
    beside = cells.flatten(1).sum(1) - image.flatten(1).sum(1)
    return image + (beside / image[0].numel()).reshape(-1, *[1] * (image.dim() - 1))


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
    """The sum of two maps, on the finer grid; what has no place on it is spread evenly."""
    if one.dim() == other.dim():
        spatial = [max(sizes) for sizes in zip(one.shape[2:], other.shape[2:], strict=True)]
        return redistribute(one, spatial) + redistribute(other, spatial)
    if one.numel() < other.numel():
        one, other = other, one
    cells = one[0].numel()
    total = other.flatten(1).sum(1)
    return one + (total / cells).reshape(-1, *[1] * (one.dim() - 1))
