"""Reduces a tensor to the cells of an input: sums its elements by sample and cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.element_cells import (
    are_whole_input,
    cell_numbers,
    cells_on_axes,
    coordinates_by_axis,
)
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.map_cells import cells_of_map, shares_of_samples
from captum_tgrad.decomposition.maps.redistribution import Bags, ready_for, redistributed
from captum_tgrad.decomposition.maps.samples import SamplesLostError, sample_numbers
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places


@dataclass(frozen=True, eq=False)
class Reduction:
    """How to sum a tensor into the cells of one input.

    Elements are first added up in the cells that they have. ``spread`` then distributes these sums
    over the cells of ``grid``, which do not overlap.

    Args:
        samples: The batch size.
        summed_shape: The shape of the tensor after a sum over all dimensions along which neither
            the sample nor the place changes.
        grid: The cells of the map; None if no element has a place.
        indices: The index of each element's sum in a flat tensor, by coordinates: first the cells
            of each sample, then the elements of each sample without a place, then the elements of
            unknown samples. Dimensions along which the index does not change have size 1. Empty if
            the flattened tensor already has this order.
        weights: For each of ``indices``, the share of each element there; None for equal shares.
        spread: For each axis, the share of each element cell that each cell of ``grid`` gets, shape
            ``([N,] element cells, cells)``, with ``N`` if samples have different cells; None if
            the cells are the same.
        sizes: The number of element cells along each axis.
        unplaced_shares: The share of each cell in the evidence of elements without a place, shape
            ``(N, 1, *cells)``; None if all cells have equal shares.
        has_unknown_samples: Whether the sample of some elements is unknown.
        all_placed: Whether each element has a place.
    """

    samples: int
    summed_shape: tuple[int, ...]
    grid: Grid | None
    indices: tuple[Tensor, ...]
    spread: tuple[Tensor | None, ...]
    sizes: tuple[int, ...]
    unplaced_shares: Tensor | None = None
    has_unknown_samples: bool = False
    all_placed: bool = True
    weights: tuple[Tensor, ...] | None = None
    _on_device: dict[object, tuple[Tensor, ...]] = field(default_factory=dict)
    _ready_spread: dict[object, list[Tensor | Bags | None]] = field(default_factory=dict)

    @property
    def numbers(self) -> int:
        """The size of the indices in memory, as a number of elements."""
        return sum(map(torch.numel, self.indices))

    @cached_property
    def kept(self) -> frozenset[int]:
        """The dimensions that are not summed over."""
        return frozenset(dim for dim, size in enumerate(self.summed_shape) if size != 1)

    @cached_property
    def kept_by_sum(self) -> tuple[frozenset[int], ...]:
        """For each of the sums that :meth:`collected` needs, the dimensions that it keeps.

        An attention score has the places of its query and its key. Each depends on one dimension
        only, so two small sums replace a tensor of all pairs.
        """
        by_coords = [
            frozenset(dim for dim, size in enumerate(index.shape) if size != 1)
            for index in self.indices
        ]
        if self.weights is not None or self._collects_elements or self.kept in by_coords:
            return (self.kept,)
        return tuple(by_coords)

    @cached_property
    def cells(self) -> int:
        """The number of element cells of each sample."""
        return math.prod(self.sizes)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the sums in the element cells."""
        return (self.samples, 1, *self.sizes)

    def _indices(self, like: Tensor) -> tuple[Tensor, ...]:
        if like.device not in self._on_device:
            self._on_device[like.device] = tuple([i.to(like.device) for i in self.indices])
        return self._on_device[like.device]

    def _spread(self, evidence: Tensor) -> Tensor:
        """Distributes sums in the element cells over the cells of ``grid``."""
        key = evidence.device, evidence.dtype
        if key not in self._ready_spread:
            self._ready_spread[key] = ready_for(evidence, self.spread)
        return redistributed(evidence, self._ready_spread[key])

    @cached_property
    def _collects_elements(self) -> bool:
        """Whether sums wait until all of them are added up together, which is faster.

        If elements are many more than cells, they would take too much memory.
        """
        return not self.has_unknown_samples and (
            math.prod(self.summed_shape) <= 2 * math.prod(self.shape)
        )

    def collected(self, *sums: Tensor) -> Tensor:
        """Sums a tensor before it is kept: over the dimensions without places, or also by cell.

        Args:
            sums: The tensor, or its sum over all dimensions but :attr:`kept`; or one sum for each
                of :attr:`kept_by_sum`.

        Raises:
            SamplesLostError: The sample of a nonzero element is unknown.
        """
        if len(sums) == 1:
            (whole,) = sums
            if whole.shape != self.summed_shape:
                whole = whole.sum_to_size(self.summed_shape)
            if not self.indices:
                return whole if whole.shape == self.shape else whole.reshape(self.shape)
            if self._collects_elements:
                return whole
            sums = (whole,)
        total = self._added_up(*(each[None] for each in sums))[0]
        if self.has_unknown_samples and bool(total[-1] != 0):
            raise SamplesLostError
        return total

    def into_cells(self, collected: Tensor) -> tuple[Tensor, Tensor | None]:
        """Adds up tensors by cell, from what :meth:`collected` returned for them, stacked.

        Returns:
            The sum in each cell of ``grid``, shape ``(tensors, N, 1, *cells)``, and the sum of the
            elements without a place, shape ``(tensors, N)``; None if all elements have one.
        """
        if not self.indices:
            return collected, None
        return self._on_map(self._added_up(collected) if self._collects_elements else collected)

    def _on_map(self, total: Tensor) -> tuple[Tensor, Tensor | None]:
        """As :meth:`into_cells`, from what :meth:`_added_up` returned."""
        counted = self.samples * self.cells
        cells = self._spread(total[:, :counted].reshape(-1, *self.shape))
        return cells, None if self.all_placed else total[:, counted:-1]

    def with_unplaced(self, cells: Tensor, unplaced: Tensor) -> Tensor:
        """Spreads the sum of the elements without a place evenly over the cells."""
        own = self.unplaced_shares
        share = 1 / cells[0, 0].numel() if own is None else own.to(cells)
        return cells + unplaced.reshape(*unplaced.shape, *[1] * (cells.dim() - 2)) * share

    def elements_per_cell(self, shape: Sequence[int], weight: Tensor) -> Tensor:
        """The number of elements that are added up in each cell of the map, ``(N, 1, *cells)``.

        ``shape`` is that of the tensor. Each element counts with its ``weight``.
        """
        weight = weight * weight.new_ones(()).expand(self.summed_shape)
        times = math.prod(shape) / max(weight.numel(), 1)
        count = weight.sum_to_size(self.summed_shape) * times
        if not self.indices:
            return count.reshape(self.shape)
        cells, unplaced = self._on_map(self._added_up(count[None]))
        return (cells if unplaced is None else self.with_unplaced(cells, unplaced))[0]

    def _added_up(self, *sums: Tensor) -> Tensor:
        """The sums of stacked tensors at all positions of ``indices``.

        There is one tensor for each of ``indices``, or one for all of them.
        """
        rows, size = len(sums[0]), self.samples * (self.cells + 1) + 1
        total = sums[0].new_zeros(rows * size)
        alpha = 1 / len(self.indices) if self.weights is None else 1.0
        every = sums if len(sums) > 1 else sums * len(self.indices)
        for slot, (own, index) in enumerate(zip(every, self._indices(total), strict=True)):
            if self.weights is not None:
                own = own * self.weights[slot].to(own)
            # A sum over the dimensions of the other coordinates is faster than adding each element.
            own = own.sum_to_size(rows, *index.shape).reshape(-1)
            index = index.reshape(-1)
            if rows > 1:
                start = torch.arange(0, len(total), size, device=total.device)
                index = (start[:, None] + index).reshape(-1)
            total.index_add_(0, index, own, alpha=alpha)
        return total.view(rows, size)

    def sample_of(self, like: Tensor) -> Tensor:
        """The sample of each element, broadcastable to ``summed_shape``, on the device of ``like``.

        Elements of unknown samples get the number ``samples``.
        """
        counted = self.samples * self.cells
        if self.indices:
            index = self._indices(like)[0]
        else:
            index = torch.arange(counted, device=like.device).reshape(self.summed_shape)
        return torch.where(index < counted, index // self.cells, index - counted)

    def per_sample(self, values: Tensor, like: Tensor) -> Tensor:
        """Reshapes ``values`` of shape ``(N,)`` so that they broadcast over the tensor."""
        if self.samples == 1 or (not self.indices and len(like) == self.samples):
            return values.reshape(-1, *[1] * (like.dim() - 1))
        return values[self.sample_of(values)]

    def out_of_cells(self, cells: Tensor, like: Tensor) -> Tensor:
        """Divides each cell equally among the elements that ``into_cells`` adds to it.

        The sum of each sample stays the same: the value of a cell without elements goes to others.
        The shape changes from ``(N, 1, *cells)`` to ``summed_shape``; ``like`` has the shape of the
        tensor.
        """
        summed = like.numel() // max(math.prod(self.summed_shape), 1)
        if not self.indices:
            return (cells / summed).reshape(self.summed_shape)
        ones = cells.new_ones(()).expand(self.summed_shape)
        placed, _ = self._on_map(self._added_up(ones[None]))
        elements = placed[0] * summed
        if bool((elements == 0).any()):
            cells = _moved_from_empty_cells(cells, elements)
        shared = torch.where(elements > 0, cells / elements, 0)
        # The transpose of the redistribution in into_cells.
        transposed = [each if each is None else each.transpose(-2, -1) for each in self.spread]
        shared = redistributed(shared, transposed).reshape(-1)
        flat = torch.cat([shared, shared.new_zeros(self.samples + 1)])
        found = torch.stack([flat[i].expand(self.summed_shape) for i in self._indices(cells)])
        if self.weights is None:
            return found.mean(0)
        weights = [weight.expand(self.summed_shape) for weight in self.weights]
        return (found * torch.stack(weights).to(found)).sum(0)


def _moved_from_empty_cells(cells: Tensor, elements: Tensor) -> Tensor:
    """Moves evidence from cells without elements to the other cells, in proportion to theirs.

    If the others have no evidence, it is divided equally among the elements.
    """
    dims = list(range(1, cells.dim()))
    kept = torch.where(elements > 0, cells, 0)
    kept = torch.where(kept.sum(dims, keepdim=True) > 0, kept, elements)
    total = kept.sum(dims, keepdim=True)
    return kept * torch.where(total > 0, cells.sum(dims, keepdim=True) / total, 0)


_cache: BoundedCache[Reduction] = BoundedCache(lambda known: known.numbers)


def reduction(places: Places, axes: Sequence[Axis], samples: int) -> Reduction:
    """The reduction of a tensor with these places to the cells of an input with these axes."""
    key = (places, tuple(axes), samples)
    return _cache.get_or(key, lambda: _reduction(places, axes, samples))


def _reduction(places: Places, axes: Sequence[Axis], samples: int) -> Reduction:
    rank = len(places.shape)
    sample = sample_numbers(places, samples)
    by_axis, count = coordinates_by_axis(places, axes)
    cells, has = cells_on_axes(by_axis, axes, sample, samples)
    sizes = [len(each) for each, _ in cells]
    element_cells = [each for each, _ in cells]
    on_map, sides = cells_of_map(element_cells, axes, has)
    by_coords = [[of[slot % len(of)] for _, of in cells] for slot in range(count)]
    numbers, weights = cell_numbers(by_coords, sizes)
    if sides is not None:
        whole = are_whole_input(element_cells, axes)
        numbers = [torch.where(whole[cell.clamp_min(0)], -1, cell) for cell in numbers]
    all_placed = all(bool((cell >= 0).all()) for cell in numbers)
    if not any(bool((cell >= 0).any()) for cell in numbers):
        numbers = [torch.zeros([1] * rank, dtype=torch.long, device="cpu")]
        sizes, on_map, by_axis = [], [], []
    dims = {dim for coordinates in by_axis for coords in coordinates for dim in coords.dims}
    dims |= {dim for dim, size in enumerate(sample.shape) if size != 1}
    spread = tuple([matrix for _, matrix in on_map])
    grid = Grid(tuple([each for each, _ in on_map]), tuple(a.extent for a in axes), sides)
    unplaced_shares = None
    if has is not None and sides is not None and sizes:
        unplaced_shares = shares_of_samples(has, spread)
    return Reduction(
        samples=samples,
        summed_shape=tuple([places.shape[dim] if dim in dims else 1 for dim in range(rank)]),
        grid=grid if sizes else None,
        indices=_indices(numbers, sample, samples, sizes, spread),
        spread=spread,
        sizes=tuple(sizes),
        unplaced_shares=unplaced_shares,
        has_unknown_samples=bool((sample < 0).any()),
        all_placed=all_placed,
        weights=weights if sizes else None,
    )


def _indices(
    numbers: Sequence[Tensor],
    sample: Tensor,
    samples: int,
    sizes: Sequence[int],
    spread: Sequence[Tensor | None],
) -> tuple[Tensor, ...]:
    """The ``indices`` of a :class:`Reduction`, from the cell and the sample of each element."""
    total = math.prod(sizes)
    indices = []
    for cell in numbers:
        index = torch.where(cell >= 0, sample * total + cell, samples * total + sample)
        indices.append(torch.where(sample < 0, samples * (total + 1), index))
    in_order = torch.arange(samples * total, device="cpu")
    is_in_order = len(indices) == 1 and torch.equal(indices[0].reshape(-1), in_order)
    return () if is_in_order and all(each is None for each in spread) else tuple(indices)
