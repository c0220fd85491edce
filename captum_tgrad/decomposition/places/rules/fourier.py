"""Places after a Fourier transform, and after the transform back.

A transform, a product with a filter and the transform back are one convolution. The gradient of one
of its results shows the kernel, whatever operations the network uses between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_tgrad.decomposition.call import Call, ConstantsRead, NoRuleError
from captum_tgrad.decomposition.checkpointing import without_checkpointing
from captum_tgrad.decomposition.places.coordinates import LOST, SAMPLES, Coordinates, compacted
from captum_tgrad.decomposition.places.movement import places_after
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of
from captum_tgrad.decomposition.places.places import Pair, Places, make_places
from captum_tgrad.decomposition.places.regridding import Window
from captum_tgrad.decomposition.places.rules.grids import on_new_grid
from captum_tgrad.decomposition.places.rules.mixing import mixed_along
from captum_tgrad.decomposition.places.rules.padding import padded_with_zeros
from captum_tgrad.decomposition.places.whole_grid import on_whole_grid

_GRID, _SPECTRA = "captum_tgrad grid", "captum_tgrad spectra"
"""Keys in the metadata of a node of autograd's graph: the grid of which it returned the spectrum,
and the nodes whose spectra it transformed back to a grid."""

_ROUNDING = 2.0**-18
"""Taps smaller than this part of a kernel's norm are rounding errors of a transform in float32."""


class _Grid(NamedTuple):
    """A grid that was transformed.

    Args:
        places: The places of its elements, with the zeros that were added to it.
        spectrum: The places of its spectrum.
        transform: The transform of a grid of zeros.
    """

    places: Places
    spectrum: Places
    transform: Call


def transformed(call: Call) -> list[Places]:
    """Places after a Fourier transform of frames, which mixes the dimensions of each frame.

    Raises:
        NoRuleError: It mixes a whole axis.
    """
    tensor, (output,), over = call.tensors[0], call.returned, set(_dims(call))
    found = mixed_along(places_of(tensor), over, output.shape)
    for axis, coords in coordinates_of(tensor):
        is_gone = over & set(coords.dims) and axis not in found.coordinates
        if is_gone and axis.is_place and axis.input != SAMPLES:
            raise NoRuleError
    return [found]


def _dims(call: Call) -> list[int]:
    """The dimensions along which a call transforms its tensor."""
    rank, dims = call.tensors[0].dim(), call.bound["dim"]
    if dims is None:
        length = call.bound["s"]
        dims = range(-len(length), 0) if length else range(rank)
    return [dim % rank for dim in ([dims] if isinstance(dims, int) else dims)]


@torch.no_grad()
def remember_grid(call: Call, found: Places) -> None:
    """Stores the grid of a Fourier transform on the node of a spectrum with these places."""
    tensor, (spectrum,) = call.tensors[0], call.returned
    node: Any = spectrum.grad_fn
    if node is None or not spectrum.is_complex():
        return
    with suppress(NoRuleError):
        length, pads = call.bound.get("n", call.bound.get("s")), [0] * (2 * tensor.dim())
        sizes = [length] if isinstance(length, int) else length or ()
        for dim, size in zip(_dims(call), sizes, strict=False):
            pads[-2 * dim - 1] = 0 if size == -1 else size - tensor.shape[dim]
        places = padded_with_zeros(tensor, pads)
        zeros = torch.zeros((), dtype=tensor.dtype, device=tensor.device).expand(places.shape)
        node.metadata[_GRID] = _Grid(places, found, call.with_first(zeros))


@torch.no_grad()
def transformed_back(call: Call) -> Places | None:
    """The places after a Fourier transform back, which are those after a convolution of the grid.

    None for a transform of a grid, and if the result is no convolution of one.
    """
    with suppress(NoRuleError, RuntimeError):  # no gradient, or places that cannot be mixed
        return _restored(call)
    return None


def _restored(call: Call) -> Places | None:
    (output,), dims, before = call.returned, _dims(call), places_of(call.tensors[0])
    node: Any = output.grad_fn
    along = {pair for pair in before.pairs if set(dims) & set(pair[1].dims)} if before else set()
    if before is None or any(axis.is_spatial for axis, _ in along):
        return None  # it transforms a grid
    restored: list[Pair] = []
    grids = _grids_before(node)
    for source, grid in grids.items():
        own, places = _dims(grid.transform), on_whole_grid(grid.places)
        taps = _taps(output, dims, source, grid.transform)
        if taps is None:
            return None
        for dim, kernel, to in zip(own, taps, dims, strict=True):
            places = _convolved(places, dim, kernel, output.shape[to])
        for axis, coords in places.pairs:
            if not set(own) & set(coords.dims) or axis.input == SAMPLES:
                continue
            now, *old = (
                _moved(each, own, dims, output.dim())
                for each in (coords, *grid.spectrum.coordinates.get(axis, ()))
            )
            if now is None or list(before.coordinates.get(axis, ())) != old:
                return None  # frames were moved
            restored.append((axis, now))
    if not restored:
        return None
    node.metadata[_SPECTRA] = list(grids)
    call.constants_read = ConstantsRead.VALUES  # another filter may have another kernel
    axes = {axis for axis, _ in restored}
    lost = {pair for pair in along if pair[0].input == LOST}
    kept = [pair for pair in before.pairs if pair[0] not in axes and pair not in lost]
    others = mixed_along(make_places(before.shape, kept), set(dims), output.shape)
    return make_places(output.shape, [*others.pairs, *restored])


def _moved(coords: Coordinates, dims: list[int], to: list[int], rank: int) -> Coordinates | None:
    """Coordinates along ``dims``, along the dimensions ``to`` of a tensor of another rank.

    None if they change along other dimensions, and some of these may have been moved.
    """
    if not set(coords.dims) <= set(dims):
        return coords if dims == to and coords.index.dim() == rank else None
    first = list(range(len(dims)))
    sizes = [coords.index.shape[dim] for dim in dims] + [1] * (rank - len(dims))
    index = coords.index.movedim(dims, first).reshape(sizes).movedim(first, to)
    return compacted(index, coords.cells, coords.by_sample)


def _grids_before(node: Any) -> dict[Any, _Grid]:
    """The last grids whose spectra a result was computed from, by the nodes of the spectra."""
    found: dict[Any, _Grid] = {}
    nodes, seen = [node], {None}
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if _GRID in node.metadata:
            found[node] = node.metadata[_GRID]
        else:
            sources = node.metadata.get(_SPECTRA, [node])
            nodes += [before for source in sources for before, _ in source.next_functions]
    return found


def _taps(
    output: Tensor, dims: Sequence[int], node: Any, transform: Call
) -> list[tuple[int, int]] | None:
    """The first and the last shift of the elements that a convolution of a grid adds up.

    There are two for each dimension, both 0 for a sum of all elements. None if the output is no
    convolution of the grid: a shift of the grid does not shift it.
    """
    own, (zeros,) = _dims(transform), transform.tensors
    if len(own) != len(dims):
        return None
    shifts: list[int] = []
    expected: list[int] = []
    for dim, other in zip(dims, own, strict=True):
        size, old = output.shape[dim], zeros.shape[other]
        common = math.gcd(size, old)
        if common < min(size, 3):
            return None  # no shift of both tells a convolution from a reflection
        number = len(shifts) + 1  # another one along each dimension, to notice a transpose
        shifts.append(number * size // common % size)
        expected.append(number * old // common % old)
    start = [0] * len(dims)
    first, second = (_gradient(output, dims, at, node, transform) for at in (start, shifts))
    # In a network in float64, the filter may be in float32.
    eps = max(torch.finfo(dtype).eps for dtype in (first.dtype, torch.float))
    tolerance = eps**0.5 * first.abs().max()
    if bool(((first.roll(expected, own) - second).abs() > tolerance).any()):
        return None
    noise = _ROUNDING * torch.linalg.vector_norm(first, dim=own, keepdim=True)
    is_seen = first.abs() > noise
    return [_ends(is_seen.movedim(dim, 0).flatten(1).any(1)) for dim in own]


def _gradient(
    output: Tensor, dims: Sequence[int], position: Sequence[int], node: Any, transform: Call
) -> Tensor:
    """The gradient of the results at a position with respect to a grid and the zeros around it."""
    probe = torch.zeros_like(output)
    part = probe
    for dim, number in zip(dims, position, strict=True):
        part = part.narrow(dim, number, 1)
    generator = torch.Generator().manual_seed(0)
    part.copy_(torch.rand(part.shape, generator=generator, device="cpu").add_(0.5))
    (gradient,) = torch.autograd.grad(output, [GradientEdge(node, 0)], probe, retain_graph=True)
    with torch.enable_grad(), without_checkpointing():
        grid = transform.tensors[0].clone().requires_grad_()
        (found,) = torch.autograd.grad(transform.with_first(grid)(), grid, gradient)
    return found


def _ends(is_seen: Tensor) -> tuple[int, int]:
    """The first and the last shift of a kernel, from the elements that the result at 0 sees."""
    size = len(is_seen)
    shifts = (-is_seen.nonzero().flatten() % size).sort().values
    gaps = shifts.diff(append=shifts[:1] + size)
    largest = int(gaps.max()) if len(gaps) else 1
    if largest == 1 or int((gaps == largest).sum()) > 1:
        return 0, 0  # they go all around
    first, length = int(shifts.roll(-1)[gaps.argmax()]), size - largest
    first -= size if 2 * first + length >= size else 0
    return first, first + length


@lru_cache(maxsize=64)
def _convolved(places: Places, dim: int, taps: tuple[int, int], size: int) -> Places:
    """The places after a circular convolution along a dimension, and a resizing to ``size``."""
    (first, last), old = taps, places.shape[dim]
    positions = torch.arange(-last, old - first, device="cpu") % old
    whole = torch.zeros((), device="cpu").expand(places.shape)
    (padded,) = places_after(lambda t: [t[0].index_select(dim, positions)], [whole], [places])
    window = Window.of_kernel(last - first + 1, 1, 0, 1)
    convolved = on_new_grid(padded.pairs, places.shape, {dim: window})
    resized = [size if each == dim else length for each, length in enumerate(places.shape)]
    return on_new_grid(convolved.pairs, resized, {dim: None})
