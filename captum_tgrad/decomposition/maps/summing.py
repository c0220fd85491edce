"""Sums the product of a gradient and a bias, which is as large as an activation, by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.maps.input_shares import input_shares
from captum_tgrad.decomposition.maps.reduction import Reduction, reduction
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.precision import in_full_precision, without_nan
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.term import Magnitudes

# Four megabytes in float32, about the fastest power of two on two threads: threads wait for each
# other with smaller blocks, and larger blocks do not fit in the cache.
ELEMENTS_OF_A_BLOCK = 2**20
_WORTH_A_CHECK = 2**16  # elements


class InputSums(NamedTuple):
    """Sums of ``a = gradient * b`` for one input, from which the map of a term is computed.

    Args:
        signed: ``sum a``, as :meth:`Reduction.collected` returns it.
        absolute: ``sum |a|``; the same shape.
        to_cells: Adds them up by cell.
    """

    signed: Tensor
    absolute: Tensor
    to_cells: Reduction


class TermSums(NamedTuple):
    """The sums of a term, before they become maps.

    Args:
        by_input: The sums of each input's share of the term, by the input's number.
        magnitudes: The range of ``|a|`` on each input, if a method needs it.
        has_equal_shares: Whether each element is divided equally among the inputs in ``by_input``.
    """

    by_input: Mapping[int, InputSums]
    magnitudes: Mapping[int, Magnitudes]
    has_equal_shares: bool = True


class _Plan(NamedTuple):
    """How to sum the elements of terms with certain places.

    Args:
        reductions: For each input on which they depend, how its share is summed.
        shares: The share of each input in each element; empty if there is one input.
        elements: The number of elements in each cell of each input, weighted with its share; empty
            without magnitudes.
        kept: For each sum of all elements, the dimensions that it keeps.
        over: The other dimensions.
        has_equal_shares: Whether each element is divided equally among the inputs.
    """

    reductions: Mapping[int, Reduction]
    shares: Mapping[int, Tensor]
    elements: Mapping[int, Tensor]
    kept: Sequence[frozenset[int]]
    over: Sequence[list[int]]
    has_equal_shares: bool

    @property
    def numbers(self) -> int:
        """The size of its tensors in memory, as a number of elements."""
        of_reductions = sum(each.numbers for each in self.reductions.values())
        tensors = [*self.shares.values(), *self.elements.values()]
        return of_reductions + sum(map(torch.numel, tensors))


_plans: BoundedCache[_Plan] = BoundedCache(lambda plan: plan.numbers)


@dataclass(frozen=True)
class Summing:
    """Sums each term into the cells of the inputs.

    Args:
        axes: The spatial axes of each input, by its number.
        samples: The batch size.
        device: The device of the results; a model may use several devices.
        with_magnitudes: Whether to compute the range of each term's elements as well.
        scratch: Lends memory for products.
    """

    axes: Mapping[int, Sequence[Axis]]
    samples: int
    device: torch.device
    with_magnitudes: bool = False
    scratch: Scratch = field(default_factory=partial(Scratch, ELEMENTS_OF_A_BLOCK, least=2**13))

    def sums_of_elements(self, elements: Tensor, places: Places) -> TermSums:
        """As :meth:`sums_of`, for a term of which the elements ``a`` are known."""
        return self.sums_of(elements, Bias(partial(elements.new_ones, ())), places)

    def sums_of(self, gradient: Tensor, bias: Bias, places: Places) -> TermSums:
        """The sums of ``a = gradient * b``; ``places`` are those of the operation's output.

        Raises:
            SamplesLostError: The sample of an element is unknown.
        """
        plan = self._plan(places)
        signed, absolute, *ranges = self._summed(gradient, bias, plan)
        sums, magnitudes = {}, {}
        for number, to_cells in plan.reductions.items():
            own_signed, own_absolute = signed, absolute
            if plan.shares:
                share = plan.shares[number].to(signed[0].dtype).to(signed[0].device)
                own_signed = [values * share for values in signed]
                own_absolute = [values * share for values in absolute]
            sums[number] = InputSums(
                to_cells.collected(*own_signed).to(self.device),
                to_cells.collected(*own_absolute).to(self.device),
                to_cells,
            )
        if self.with_magnitudes:
            of_all = [values for (values,) in ranges]
            for number, to_cells in plan.reductions.items():
                magnitudes[number] = self._magnitudes(
                    of_all, to_cells, plan.elements[number], plan.shares.get(number)
                )
        return TermSums(sums, magnitudes, plan.has_equal_shares)

    def _plan(self, places: Places) -> _Plan:
        return _plans.get_or((places, self._key), lambda: self._new_plan(places))

    @cached_property
    def _key(self) -> object:
        """What a plan depends on, apart from the places."""
        axes = tuple((number, *own) for number, own in self.axes.items())
        return axes, self.samples, self.with_magnitudes

    def _new_plan(self, places: Places) -> _Plan:
        reductions = {
            number: reduction(places, self.axes[number], self.samples) for number in places.inputs
        }
        shares = input_shares(places) if len(reductions) > 1 else {}
        kept = next(iter(reductions.values())).kept_by_sum
        shared = {d for each in shares.values() for d, size in enumerate(each.shape) if size != 1}
        if shares or self.with_magnitudes:
            kept = (frozenset(shared).union(*[each.kept for each in reductions.values()]),)
        over = [[dim for dim in range(len(places.shape)) if dim not in own] for own in kept]
        elements = {}
        if self.with_magnitudes:
            one = torch.ones([1] * len(places.shape), dtype=torch.float64, device="cpu")
            elements = {
                number: each.elements_per_cell(places.shape, shares.get(number, one))
                for number, each in reductions.items()
            }
        return _Plan(reductions, shares, elements, kept, over, not shared)

    def _summed(self, gradient: Tensor, bias: Bias, plan: _Plan) -> list[list[Tensor]]:
        """``sum a`` and ``sum |a|`` over the dimensions of the plan.

        With magnitudes, also the smallest and the largest ``|a|``. On a CPU, allocating, writing
        and reading a product as large as an activation takes longer than computing it. Blocks of
        the product fit in the cache and reuse the same memory.
        """
        dim, length = _block_size(gradient, bias.uncut)
        if dim is None:
            found = self._summed_block(gradient, bias, plan.over)
        else:
            parts = []
            for start in range(0, gradient.shape[dim], length):
                size = min(length, gradient.shape[dim] - start)
                part = bias.part(dim, start, size, gradient.shape)
                block = gradient.narrow(dim, start, size)
                parts.append(self._summed_block(block, part, plan.over))
            found = [
                [
                    torch.cat(each, dim) if dim in own else how(torch.stack(each), 0)
                    for each, own in zip(zip(*blocks, strict=True), plan.kept, strict=True)
                ]
                for blocks, how in zip(zip(*parts, strict=True), _REDUCTIONS, strict=False)
            ]
        if bias.scale != 1:
            scales = [bias.scale, *[abs(bias.scale)] * (len(found) - 1)]
            pairs = zip(found, scales, strict=True)
            found = [[values * scale for values in each] for each, scale in pairs]
        return found

    def _summed_block(
        self, gradient: Tensor, bias: Bias, over: Sequence[list[int]]
    ) -> list[list[Tensor]]:
        # A masked element may have a gradient of NaN, as after a softmax of a row of -inf. It
        # counts as zero. If that is wrong, the residual shows it.
        product = bias.times(in_full_precision(gradient), self.scratch)
        if over == [[]]:  # without a sum: copy, because the next block overwrites the memory
            product = without_nan(product)
            absolute = product.abs()
            return [[product], [absolute], *[[absolute]] * (2 * self.with_magnitudes)]
        found = _sums(product, over)
        if self.with_magnitudes:
            absolute = without_nan(product)
            found += [
                [how(absolute, dims, True) for dims in over] for how in (torch.amin, torch.amax)
            ]
        return found

    def _magnitudes(
        self, ranges: Sequence[Tensor], to_cells: Reduction, elements: Tensor, share: Tensor | None
    ) -> Magnitudes:
        """The range of ``|a|`` in each sample, over the elements in which an input has a share."""
        smallest, largest = (each.to(self.device) for each in ranges)
        if share is not None:
            has_none = share.to(self.device) == 0
            smallest = smallest.masked_fill(has_none, torch.inf)
            largest = largest.masked_fill(has_none, -torch.inf)
        sample = to_cells.sample_of(smallest).expand_as(smallest).reshape(-1)
        smallest, largest = smallest.reshape(-1), largest.reshape(-1)
        # The last number collects the elements of unknown samples, which are zero.
        start = smallest.new_zeros(self.samples + 1)
        smallest, largest = (
            start.scatter_reduce(0, sample, values, how, include_self=False)[:-1]
            for values, how in ((smallest, "amin"), (largest, "amax"))
        )
        # The range is infinite if the input has no share in any element of a sample.
        elements = elements.to(smallest.dtype).to(self.device)
        return Magnitudes(smallest.nan_to_num(posinf=0), largest.nan_to_num(neginf=0), elements)


def _sums(product: Tensor, over: Sequence[list[int]]) -> list[list[Tensor]]:
    """The sums of a product without NaN, and of its absolute value, which overwrites it."""
    # On a CPU, nansum takes up to twice as long as a sum.
    if product.is_cpu and product.numel() >= _WORTH_A_CHECK:
        signed = [product.sum(dims, keepdim=True) for dims in over]
        if not bool(signed[0].isnan().any()):
            product.abs_()
            return [signed, [product.sum(dims, keepdim=True) for dims in over]]
    signed = [product.nansum(dims, keepdim=True) for dims in over]
    product.abs_()
    return [signed, [product.nansum(dims, keepdim=True) for dims in over]]


_REDUCTIONS: tuple[Callable[..., Tensor], ...] = (torch.sum, torch.sum, torch.amin, torch.amax)


def _block_size(tensor: Tensor, uncut: tuple[int, ...]) -> tuple[int | None, int]:
    """The dimension to cut a tensor along and the length of a block; ``(None, 0)`` for no cut."""
    if not tensor.is_cpu or tensor.numel() <= ELEMENTS_OF_A_BLOCK:
        return None, 0
    # Blocks along the dimension of the largest stride are contiguous in memory.
    for dim in sorted(range(tensor.dim()), key=tensor.stride, reverse=True):
        size = tensor.shape[dim]
        length = max(1, ELEMENTS_OF_A_BLOCK * size // tensor.numel())
        if size != 1 and length < size and dim not in uncut:
            return dim, length
    return None, 0
