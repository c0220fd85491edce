"""Places after a sum of products, as in an einsum equation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, ConstantsRead
from captum_tgrad.decomposition.places.coordinates import (
    SAMPLES,
    Axis,
    Coordinates,
    OnAxis,
    interned,
)
from captum_tgrad.decomposition.places.copies import with_copies_refined
from captum_tgrad.decomposition.places.graph_nodes import is_adjacency_matrix
from captum_tgrad.decomposition.places.masks import (
    kept_only,
    mask_in_sums,
    places_in_sums,
    positions_kept,
)
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.spans import Sums
from captum_tgrad.decomposition.places.sums import by_place, cells_of_sums, mixed_on_axes

_MOST_CHECKED = 2**22  # elements of a constant that are compared with zero


_Operand = tuple[str, Any]
"""The letters of a tensor's dimensions, and the tensor."""


def contracted(call: Call, equation: str, tensors: Sequence[Any], output: Tensor) -> list[Places]:
    """The places of ``torch.einsum(equation, *tensors)``.

    Dimensions that are summed over are mixed; coordinates along the others keep their letters. A
    constant matrix with zeros, such as a permutation, selects the elements that it mixes.
    """
    *terms, right = _without_ellipsis(equation, tensors)
    operands = list(zip(terms, tensors, strict=True))
    placed = {
        axis
        for letters, tensor in operands
        for axis, coords in coordinates_of(tensor)
        if all(letters[dim] in right for dim in coords.dims)
    }
    every = "".join(dict.fromkeys("".join(terms)))
    summed = [dim for dim, letter in enumerate(every) if letter not in right]
    pairs = [
        (axis, interned(_arranged(coords.index, own, every), coords.cells, coords.by_sample))
        for operand in operands
        for own, axis, coords in _of_operand(call, operand, operands, right)
    ]
    found = [
        (axis, coords.moved(_arranged(coords.index, every, right)))
        for axis, coords in mixed_on_axes(pairs, summed, placed)
    ]
    of_several = sum(any(coordinates_of(tensor)) for tensor in tensors) > 1
    return [make_places(output.shape, found, of_several=of_several)]


def factor_of_sums(equation: str, tensors: Sequence[Tensor]) -> tuple[str, int] | None:
    """The factor of ``torch.einsum(equation, *tensors)`` whose positions the sum removes.

    Returns:
        The equation without ellipsis, and the number of the factor, the smallest of several. None
        if results differ in their positions, no factor has all positions, or a tensor is sparse.
    """
    if any(tensor.layout != torch.strided for tensor in tensors):
        return None
    *terms, right = _without_ellipsis(equation, tensors)
    sizes = [dict(zip(s, t.shape, strict=True)) for s, t in zip(terms, tensors, strict=True)]
    placed: dict[str, int] = {}
    samples: dict[str, int] = {}
    for letters, own, tensor in zip(terms, sizes, tensors, strict=True):
        for axis, coords in coordinates_of(tensor):
            along = {letters[dim]: own[letters[dim]] for dim in coords.dims}
            if axis.input == SAMPLES:
                samples |= along
            elif axis.is_spatial and along:
                if along.keys() <= set(right):
                    return None
                placed |= along
    needed = {*placed.items(), *samples.items()}
    numbers = [number for number, own in enumerate(sizes) if needed <= own.items()]
    if not placed or not numbers or any(len(set(letters)) < len(letters) for letters in terms):
        return None
    # Of equal ones the last: in ``keys.mT @ values``, arithmetic with the first is slower.
    factor = min(reversed(numbers), key=lambda number: tensors[number].numel())
    return f"{','.join(terms)}->{right}", factor


def _without_ellipsis(equation: str, tensors: Sequence[Any]) -> list[str]:
    """The letters of each tensor and of the result, with unused letters in place of ``...``."""
    left, right = equation.split("->")
    terms = left.split(",")
    unused = "".join(letter for letter in ascii_letters if letter not in equation)
    ranks = [t.dim() - len(s.replace("...", "")) for s, t in zip(terms, tensors, strict=True)]
    own = [unused[max(ranks) - rank : max(ranks)] for rank in (*ranks, max(ranks))]
    return [s.replace("...", dots) for s, dots in zip((*terms, right), own, strict=True)]


def _of_operand(
    call: Call, operand: _Operand, operands: Sequence[_Operand], kept: str
) -> list[tuple[str, Axis, Coordinates]]:
    """The coordinates of one operand, with the letters of their dimensions.

    Those of elements that a constant matrix selects are those of the sums. ``kept`` are the letters
    of the result.
    """
    letters, _ = operand
    places, matrices = _without_masked(call, operand, operands, kept)
    if places is None:
        return []
    samples = _samples_by_letter(places, letters)
    distinct = "".join(dict.fromkeys(letters))
    summed = [dim for dim, letter in enumerate(distinct) if letter not in kept]
    parts: list[tuple[str, Axis, Coordinates]] = []
    pairs: list[OnAxis] = []
    for axis, coords in with_copies_refined(places).pairs:
        whole = coords.moved(_diagonal(coords.index, letters))
        if whole is not None:
            pairs.append((axis, whole))
    alike: dict[tuple[object, frozenset[int]], list[OnAxis]] = {}
    for group in by_place(pairs):
        dims = frozenset(dim for _, coords in group for dim in coords.dims)
        axis, _ = group[0]
        alike.setdefault((axis.input if axis.is_spatial else axis, dims), []).extend(group)
    for (_, dims), group in alike.items():
        selected = None
        if sum(dim in summed for dim in dims) == 1:
            selected = _selected(call, group, distinct, matrices, kept, samples)
        own, left = (distinct, group) if selected is None else selected
        parts += [(own, axis, part) for axis, part in left]
    return parts


def _without_masked(
    call: Call, operand: _Operand, operands: Sequence[_Operand], kept: str
) -> tuple[Places | None, list[_Operand]]:
    """The places of an operand without masked elements, and the operands that are no masks of it.

    The places are None for a constant.
    """
    letters, tensor = operand
    over = [dim for dim, letter in enumerate(letters) if letter not in kept]
    unmasked, places = places_of(tensor), places_in_sums(tensor, over)
    if unmasked is None or places is None:
        return None, []
    if places is not unmasked and _are_of_one(operands, {letters[dim] for dim in over}):
        places = unmasked
    matrices = []
    for own, other in operands:
        mask = None if other is tensor else _as_mask(other, own, letters, kept)
        if mask is None:
            matrices.append((own, other))
        elif _selects(call, mask):
            call.selects_elements = True
            places = kept_only(places, mask != 0, over)
    return places, matrices


def _are_of_one(operands: Sequence[_Operand], summed: set[str]) -> bool:
    """Whether each sum has at most one summand, because of the zeros of a constant matrix.

    A permutation matrix moves masked elements as an index does.
    """
    for letters, tensor in operands:
        over = [dim for dim, letter in enumerate(letters) if letter in summed]
        if summed <= set(letters) and not any(coordinates_of(tensor)) and tensor.dim() > len(over):
            return int((tensor.detach().to_dense() != 0).sum(over).max()) <= 1
    return False


def _arranged(tensor: Tensor, own: str, letters: str) -> Tensor:
    """Moves the dimensions of a tensor from those of its ``own`` letters to those of ``letters``.

    Dimensions of other letters have size 1 and are removed. New dimensions have size 1.
    """
    kept = [own.index(letter) for letter in letters if letter in own]
    removed = [dim for dim in range(len(own)) if dim not in kept]
    sizes = [tensor.shape[own.index(letter)] if letter in own else 1 for letter in letters]
    return tensor.permute([*kept, *removed]).reshape(sizes)


def _as_mask(constant: Any, own: str, letters: str, kept: str) -> Tensor | None:
    """A constant by which the elements of a tensor are multiplied before they are summed.

    It has only dimensions of the tensor. A matrix of one column counts as a vector. Masked weights
    that depend on the input, as of an attention pooling, count as ones and zeros at each position.

    Args:
        constant: A tensor operand.
        own: Its letters.
        letters: The letters of the tensor.
        kept: The letters of the result.

    Returns:
        The constant, broadcastable to the tensor; None for another operand.
    """
    places = places_of(constant)
    if places is not None and places.pairs:
        shown = mask_in_sums(constant)
        if shown is None:
            return None
        shown = shown | (constant != 0).to(shown.device)
        shown = positions_kept(places, shown, range(constant.dim()))
        if shown is None:
            return None
        constant = shown.double()
    along = {letter for letter, size in zip(own, constant.shape, strict=True) if size != 1}
    if along <= set(kept) or not along <= set(letters):
        return None
    if any(own.count(letter) > 1 or letters.count(letter) > 1 for letter in along):
        return None  # it multiplies a diagonal
    return _arranged(constant.detach().to_dense(), own, letters)


def _samples_by_letter(places: Places, letters: str) -> dict[str, Coordinates]:
    """The samples of the elements, by the letter of the dimension that they are along."""
    return {
        letters[coords.dims[0]]: Coordinates(
            _diagonal(coords.index, letters).flatten(), coords.cells
        )
        for coords in places.samples
        if len(coords.dims) == 1
    }


def _diagonal(index: Tensor, letters: str) -> Tensor:
    """Takes the diagonal of an index whose dimensions have the same letter, as einsum does."""
    sizes: dict[str, int] = {}
    for letter, size in zip(letters, index.shape, strict=True):
        sizes[letter] = max(size, sizes.get(letter, 1))
    whole = index.expand([sizes[letter] for letter in letters])
    return torch.einsum(f"{letters}->{''.join(sizes)}", whole)


def _selected(
    call: Call,
    coordinates: Sequence[OnAxis],
    own: str,
    operands: Sequence[_Operand],
    kept: str,
    samples: Mapping[str, Coordinates],
) -> tuple[str, list[OnAxis]] | None:
    """The coordinates of sums of elements that a constant matrix selects, and their letters.

    None if the matrix does not select, or if the sums have no cells.

    Args:
        call: The call; notes on it whether the matrix selects.
        coordinates: Those of the elements, which change along one summed dimension, and along
            others only if the matrix has them as well; on axes of one input.
        own: The letters of their dimensions.
        operands: The letters of each tensor, and the tensor.
        kept: The letters of the result.
        samples: The samples of the elements, by the letter of the dimension that they are along.
    """
    everywhere = "".join(letters for letters, _ in operands)
    varying = {own[dim] for _, coords in coordinates for dim in coords.dims}
    (letter,) = varying.difference(kept)
    constants = [
        (letters, tensor)
        for letters, tensor in operands
        if letters.count(letter) == 1
        and not any(coordinates_of(tensor))
        and varying <= set(letters)
    ]
    if len(constants) != 1:
        return None
    ((letters, constant),) = constants
    inner = [d for d, each in enumerate(letters) if each not in kept and each != letter]
    if any(everywhere.count(letters[d]) > 1 for d in inner):
        return None
    if not _selects(call, constant):
        return None
    used = constant.detach().to_dense().cpu().bool()
    if inner:  # the result is summed over several matrices
        used = used.any(inner)
        letters = "".join(each for d, each in enumerate(letters) if d not in inner)
    dim = letters.index(letter)
    shared = len(samples[letter].cells) if letter in samples else 1
    for row in reversed(range(used.dim())):
        if letters[row] not in varying and is_adjacency_matrix(used, row, dim, shared):
            call.selects_elements = True
            others = letters.replace(letters[row], "")
            nodes = [
                (axis, Coordinates(_arranged(c.index, own, others), c.cells))
                for axis, c in coordinates
            ]
            return others.replace(letter, letters[row]), nodes
    rest = [size for d, size in enumerate(used.shape) if d != dim]
    of_summands = [
        Coordinates(_arranged(each.index, along, letters), each.cells)
        for along, each in samples.items()
        if along in letters and used.shape[letters.index(along)] > 1
    ]
    number = torch.arange(math.prod(rest), device="cpu").reshape(rest).unsqueeze(dim)
    summands = [
        (axis, Coordinates(_arranged(c.index, own, letters).where(used, 0), c.cells))
        for axis, c in coordinates
    ]
    found = cells_of_sums(summands, Sums(number, rest), (*of_summands, None)[0])
    if not found:
        return None
    call.selects_elements = True
    return letters.replace(letter, ""), found


def _selects(call: Call, constant: Tensor) -> bool:
    """Whether a constant selects elements by its zeros; notes on the call that this was read."""
    selects = has_zeros(constant)
    read = ConstantsRead.VALUES if selects else ConstantsRead.NO_ZEROS
    call.constants_read = max(call.constants_read, read)
    return selects


def has_zeros(constant: Tensor) -> bool:
    """Whether a constant matrix has zeros; a large one counts as dense without a check."""
    if constant.layout != torch.strided:
        return True
    return (
        constant.is_floating_point()
        and constant.numel() <= _MOST_CHECKED
        and int(constant.bool().count_nonzero()) < constant.numel()  # faster than == 0
    )
