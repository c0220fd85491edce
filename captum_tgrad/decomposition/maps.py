"""From the gradient that arrives at an operation to the small maps of its term."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.places.reduction import Reduction, reduction
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.terms import Magnitudes, TermMap

# Four megabytes in float32: of the powers of two about the fastest on two threads, which smaller
# blocks keep waiting for each other and larger ones drive out of the cache.
ELEMENTS_OF_A_BLOCK = 2**20


class SamplesLostError(ValueError):
    """It is not known which sample the elements of a tensor belong to."""


def samples_lost(module: str, operation: str) -> SamplesLostError:
    """The error that names the operation."""
    return SamplesLostError(
        f"The samples of the batch cannot be told apart at the operation {operation!r}"
        f" in {module or 'forward_func'!r}: an operation before it mixes them, or may"
        " have put them into another order. Explain them one at a time, in batches of 1."
    )


@dataclass(frozen=True)
class Sums:
    """``sum_c c`` and ``sum_c |c|`` on one input, from which the maps follow.

    Args:
        signed: Shape ``(N, 1, *cells)``, or ``(N, 1)`` without a place.
        absolute: The same shape.
        beside: ``sum c`` and ``sum |c|`` of the elements without a place, shape ``(2, N)``.
        by: How they were summed.
    """

    signed: Tensor
    absolute: Tensor
    beside: Tensor
    by: Reduction


@dataclass(frozen=True)
class Reduced:
    """A term that is waiting for the others to be turned into maps.

    Args:
        sums: Its sums on each input that reaches it, by the input's number.
        magnitudes: The range of ``|c|``, where it was asked for.
    """

    sums: Mapping[int, Sums]
    magnitudes: Magnitudes | None = None


@dataclass(frozen=True)
class Summing:
    """What a term is summed over.

    Args:
        axes: The spatial axes of each input, by its number.
        samples: The batch size.
        device: Where the results go: a model may be spread over several.
        with_magnitudes: Whether to find the range of each term's elements, too.
    """

    axes: Mapping[int, Sequence[Axis]]
    samples: int
    device: torch.device
    with_magnitudes: bool = False

    def reduced(
        self, gradient: Tensor, bias: Bias, given: Places, inputs: frozenset[int], scratch: Scratch
    ) -> Reduced:
        """The sums of ``c = gradient * b``.

        Args:
            gradient: ``df/dy`` of the operation's output ``y``.
            bias: The operation's ``b``.
            given: Where the elements of ``y`` are.
            inputs: The numbers of the inputs that reach it.
            scratch: Lends the memory for ``c``.

        Raises:
            SamplesLostError: It is not known which sample the elements belong to.
        """
        by = {
            number: reduction(given, self.axes[number], self.samples) for number in sorted(inputs)
        }
        kept = {dim for each in by.values() for dim in each.kept}
        blocks = _Blocks(gradient, bias, kept, self.with_magnitudes, scratch)
        signed, absolute = blocks.signed, blocks.absolute
        sums = {}
        for number, each in by.items():
            over = [dim for dim in kept if dim not in each.kept]
            own = [t.sum(over, keepdim=True) if over else t for t in (signed, absolute)]
            cells, beside, nowhere = each.into_cells(own[0])
            all_cells, all_beside, nowhere = each.into_cells(own[1])
            if each.has_unknown_samples and bool(nowhere > 0):
                raise SamplesLostError
            if each.grid is None:
                cells, all_cells = cells.reshape(-1, 1), all_cells.reshape(-1, 1)
            sums[number] = Sums(
                cells.to(self.device),
                all_cells.to(self.device),
                torch.stack([beside, all_beside]).to(self.device),
                each,
            )
        magnitudes = None
        if self.with_magnitudes:
            first = next(iter(by.values()))
            magnitudes = blocks.magnitudes(first, self.samples, self.device)
        return Reduced(sums, magnitudes)


class _Blocks:
    """``c = gradient * b``, summed over all dimensions that are not kept, block by block.

    On a CPU, products of the size of a large activation cost more to allocate, write and read back
    than to compute. Those of a block stay in memory that is used again, and in the cache.
    """

    def __init__(
        self, gradient: Tensor, bias: Bias, kept: set[int], ranges: bool, scratch: Scratch
    ) -> None:
        self._summed = [dim for dim in range(gradient.dim()) if dim not in kept]
        self._elements = gradient.numel()
        self._scratch = scratch
        self._ranges = ranges
        dim, length = _cut(gradient, bias.uncut)
        if dim is None:
            found = self._block(gradient, bias)
        else:
            parts = []
            for start in range(0, gradient.shape[dim], length):
                size = min(length, gradient.shape[dim] - start)
                part = bias.part(dim, start, size, gradient.shape)
                parts.append(self._block(gradient.narrow(dim, start, size), part))
            found = [
                _joined(list(each), dim if dim in kept else None, how)
                for each, how in zip(zip(*parts, strict=True), _HOW, strict=False)
            ]
        scale = bias.scale
        if scale != 1:
            found = [found[0] * scale, *(each * abs(scale) for each in found[1:])]
        self.signed, self.absolute, *self._range = found

    def _block(self, gradient: Tensor, bias: Bias) -> list[Tensor]:
        product = bias.times(in_full_precision(gradient), self._scratch)
        found = [self._sum(product)]
        absolute = product.abs_()
        found.append(self._sum(absolute))
        if self._ranges:
            over = self._summed
            found.append(absolute.amin(over, keepdim=True) if over else absolute.clone())
            found.append(absolute.amax(over, keepdim=True) if over else absolute.clone())
        return found

    def _sum(self, product: Tensor) -> Tensor:
        if self._summed:
            return product.sum(self._summed, keepdim=True)
        return product.clone()  # its memory is used again

    def magnitudes(self, by: Reduction, samples: int, device: torch.device) -> Magnitudes:
        """The range of ``|c|`` in each sample."""
        smallest, largest = (each.to(device).reshape(-1) for each in self._range)
        sample = by.sample_of(smallest)
        if sample is None or len(sample) != len(smallest):
            if samples > 1:
                raise SamplesLostError
            sample = torch.zeros(len(smallest), dtype=torch.long, device=device)
        start = smallest.new_zeros(samples)
        return Magnitudes(
            start.scatter_reduce(0, sample, smallest, "amin", include_self=False),
            start.scatter_reduce(0, sample, largest, "amax", include_self=False),
            self._elements // samples,
        )


_HOW = ("sum", "sum", "amin", "amax")


def _joined(parts: list[Tensor], dim: int | None, how: str) -> Tensor:
    if dim is not None:
        return torch.cat(parts, dim)
    stacked = torch.stack(parts)
    joined: Tensor = getattr(stacked, how)(0)
    return joined


def _cut(tensor: Tensor, uncut: tuple[int, ...]) -> tuple[int | None, int]:
    """Along which dimension to cut an activation into blocks, and their length; None if small."""
    if not tensor.is_cpu or tensor.numel() <= ELEMENTS_OF_A_BLOCK:
        return None, 0
    # Along the slowest dimension, a block is one piece of memory.
    for dim in sorted(range(tensor.dim()), key=tensor.stride, reverse=True):
        size = tensor.shape[dim]
        length = max(1, ELEMENTS_OF_A_BLOCK * size // tensor.numel())
        if size != 1 and length < size and dim not in uncut:
            return dim, length
    return None, 0


def maps_of(terms: Sequence[Reduced]) -> list[dict[int, TermMap]]:
    """The maps of several terms on their inputs; those of one shape at once, as they are small."""
    groups: dict[object, list[tuple[int, int]]] = {}
    for position, term in enumerate(terms):
        for number, sums in term.sums.items():
            key = (sums.signed.shape, sums.signed.dtype)
            groups.setdefault(key, []).append((position, number))
    maps: list[dict[int, TermMap]] = [{} for _ in terms]
    for members in groups.values():
        own = [terms[position].sums[number] for position, number in members]
        signed = torch.stack([sums.signed for sums in own])
        absolute = torch.stack([sums.absolute for sums in own])
        beside = torch.stack([sums.beside for sums in own])
        per_cell = [-1, signed.shape[1], *[1] * (signed.dim() - 2)]
        cells = max(signed[0, 0].numel(), 1)
        on_cells = absolute.flatten(2).sum(2)
        total = on_cells + beside[:, 1]
        tiny = torch.finfo(total.dtype).tiny
        placed = torch.where(total > 0, on_cells / total.clamp_min(tiny), 1)
        # What has no place is spread evenly over the cells.
        signed = signed + (beside[:, 0] / cells).reshape(per_cell)
        absolute = absolute + (beside[:, 1] / cells).reshape(per_cell)
        # sum ReLU(c) and sum ReLU(-c) from sum c and sum |c|: two weighted sums instead of two
        # rectified copies of the activation. Rounding may leave -eps where the sum is zero.
        positive = (absolute + signed).div_(2).clamp_min_(0)
        negative = (absolute - signed).div_(2).clamp_min_(0)
        for row, (position, number) in enumerate(members):
            grid = own[row].by.grid
            share = placed[row] if grid is not None else torch.zeros_like(placed[row])
            maps[position][number] = TermMap(positive[row], negative[row], share, grid)
    return maps


def score_of(reduced: Reduced) -> Tensor:
    """``sum c`` of each sample, shape ``(N,)``."""
    sums = next(iter(reduced.sums.values()))
    return sums.signed.flatten(1).sum(1) + sums.beside[0]
