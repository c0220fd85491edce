"""Places after an operation that moves or adds elements by indices, points or strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.coordinates import Coordinates, OnAxis
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.movement import Moved
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of
from captum_tgrad.decomposition.places.places import Pair, Places, make_places
from captum_tgrad.decomposition.places.rules.moving import assigned, rule_of_mover
from captum_tgrad.decomposition.places.rules.rule import Effect, places_rule
from captum_tgrad.decomposition.places.spans import Sums
from captum_tgrad.decomposition.places.sums import cells_of_sums
from captum_tgrad.decomposition.places.views import laid_out_as
from captum_tgrad.decomposition.scratch import is_dense


def added(call: Call) -> list[Places]:
    """Places after ``index_add``, ``scatter_add`` and similar, which combine elements."""
    tensor, dim, index, source = (call.bound[name] for name in ("input", "dim", "index", "src"))
    index, dim = index.detach().cpu(), dim % max(source.dim(), 1)
    if call.name.startswith("index"):
        index = index.reshape([-1 if d == dim else 1 for d in range(source.dim())])
        index = index.expand(source.shape)
    alike = {  # channels, which are added alike
        d
        for d, size in enumerate(index.shape)
        if d != dim and index.stride(d) == 0 and size == tensor.shape[d]
    }

    def sums(dims: Collection[int]) -> Sums:
        shape = [1 if d in dims else size for d, size in enumerate(tensor.shape)]
        own = index[tuple(slice(1 if d in dims else None) for d in range(index.dim()))]
        return Sums(_flat_indices(shape).gather(dim, own), shape)

    return _added_at(call, tensor, source, sums, alike)


@places_rule(Effect.WRITES)
def put(call: Call) -> list[Places]:
    """Places after ``index_put``, which writes elements to given positions or adds them there."""
    if not call.bound["accumulate"]:
        return assigned(call)
    tensor, values = call.bound["input"], call.bound["values"]
    indices = [None if i is None else i.detach().cpu() for i in call.bound["indices"]]
    sums = Sums(_flat_indices(tensor.shape)[tuple(indices)], tensor.shape)
    return _added_at(call, tensor, values, lambda _: sums)


@rule_of_mover(Effect.WRITES)
def sparse(call: Call) -> Moved:
    """Places after ``sparse_coo_tensor``, as in the dense tensor."""
    indices, values = (call.bound[name] for name in ("indices", "values"))
    (output,) = call.returned
    at = tuple(indices.detach().cpu())

    def run(numbers: list[Tensor]) -> list[Tensor]:
        return [torch.zeros(output.shape, device="cpu").index_put(at, numbers[0])]

    return run, [values]


def _flat_indices(shape: Sequence[int]) -> Tensor:
    return torch.arange(math.prod(shape), device="cpu").reshape(shape)


def _added_at(
    call: Call,
    tensor: Tensor,
    source: Any,
    sums: Callable[[Collection[int]], Sums],
    alike: Collection[int] = (),
) -> list[Places]:
    """Places after the elements of ``source`` were added to those of ``tensor``.

    Args:
        call: The call.
        tensor: The tensor.
        source: The summands.
        sums: Returns the sums, with size 1 in dimensions along which all of them are alike.
        alike: Dimensions along which each element is added at its own position.
    """
    call.selects_elements = True
    coordinates: list[Pair] = list(coordinates_of(tensor))
    places = places_of(source)
    if places is None:
        return [make_places(output.shape, coordinates) for output in call.returned]
    of_samples = {dim for coords in places.samples for dim in coords.dims}
    unchanged = {dim for dim in alike if source.shape[dim] == tensor.shape[dim]}
    groups: dict[object, list[OnAxis]] = {}
    for axis, coords in sorted(with_copies_refined(places).pairs, key=lambda pair: pair[0].dim):
        if coords.dims and unchanged.issuperset(coords.dims):
            coordinates.append((axis, coords))  # such as those of the channels
        else:
            groups.setdefault(axis.input if axis.is_spatial else axis, []).append((axis, coords))
    for group in groups.values():
        dims = {dim for _, coords in group for dim in coords.dims}
        own = sums(set(alike) - of_samples - dims)
        shape = own.number.shape
        samples = places.sample and _of_summands(places.sample, source, shape)
        summands = [(axis, _of_summands(coords, source, shape)) for axis, coords in group]
        coordinates += cells_of_sums(summands, own, samples)
    return [make_places(output.shape, coordinates, of_several=True) for output in call.returned]


def _of_summands(coords: Coordinates, source: Tensor, shape: Sequence[int]) -> Coordinates:
    index = coords.index.expand(source.shape)
    if source.dim() == len(shape):  # the index of ``scatter_add`` may be smaller
        index = index[tuple(map(slice, shape))]
    return Coordinates(index.expand(shape), coords.cells)


@rule_of_mover(is_cached=False)
def by_indices(call: Call) -> Moved:
    """Places after ``sort``, ``topk`` and similar, which return values with their indices."""
    tensor, dim = call.bound["input"], call.bound["dim"]
    indices = call.returned[1].detach()
    return lambda t: [t[0].gather(dim, t[1])], [tensor, indices]


@rule_of_mover(is_cached=False)
def sampled(call: Call) -> Moved:
    """Places after ``grid_sample``: those of the element that is nearest to each point."""
    bound = call.bound
    image, grid = bound["input"], bound["grid"].detach().float().cpu()
    if places_of(image) is None:
        raise NoRuleError
    corners = bool(bound["align_corners"])

    def run(indices: list[Tensor]) -> list[Tensor]:
        return [F.grid_sample(indices[0], grid, "nearest", "zeros", align_corners=corners)]

    return run, [image]


@rule_of_mover(is_cached=False)
def strided(call: Call) -> Moved:
    """Places after ``as_strided``, which reads elements by their positions in memory."""
    tensor, size, stride = (call.bound[name] for name in ("input", "size", "stride"))
    start, offset = tensor.storage_offset(), call.bound["storage_offset"]
    if not is_dense(tensor):  # it may read memory between the elements
        raise NoRuleError

    def run(indices: list[Tensor]) -> list[Tensor]:
        whole = laid_out_as(tensor, indices[0])
        return [whole.as_strided(size, stride, 0 if offset is None else offset - start)]

    return run, [tensor]
