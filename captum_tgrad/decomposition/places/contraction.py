"""Places after a sum of products, as in an einsum equation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.accelerator import wide
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates, coordinates
from captum_tgrad.decomposition.places.masked import kept_by_mask, kept_only, places_in_sums
from captum_tgrad.decomposition.places.mixed_elements import Summands, cells_of_sums, mixed_on_axes
from captum_tgrad.decomposition.places.origin import claims_of, places_of
from captum_tgrad.decomposition.places.places import Places, places
from captum_tgrad.decomposition.places.whole_grid import with_copies_refined

_MOST_CHECKED = 2**22  # elements of a constant that are compared with zero


def contracted(call: Call, equation: str, tensors: Sequence[Any], output: Tensor) -> list[Places]:
    """The places of ``torch.einsum(equation, *tensors)``; the equation has no ellipsis.

    Dimensions that are summed over are mixed; coordinates along the others keep their letters. A
    constant matrix with zeros, such as a permutation, selects the elements that it mixes.
    """
    left, right = equation.split("->")
    operands = list(zip(left.split(","), tensors, strict=True))
    found: list[tuple[Axis, Coordinates | None]] = []
    for letters, tensor in operands:
        over = [dim for dim, letter in enumerate(letters) if letter not in right]
        given = places_in_sums(tensor, over)
        if given is None:
            continue
        masks = [
            None if other is tensor else _as_mask(other, own, letters, right)
            for own, other in operands
        ]
        matrices = [pair for pair, mask in zip(operands, masks, strict=True) if mask is None]
        for mask in masks:
            if mask is not None and _selects(call, mask):
                call.picks = True
                given = kept_only(given, mask != 0, over)
        samples = _samples_by_letter(given, letters)
        own, summed = letters, list[int]()
        unpicked: list[tuple[Axis, Coordinates]] = []
        parts: list[tuple[str, Axis, Coordinates]] = []
        for axis, claim in with_copies_refined(given).pairs:
            own, index = _without_repeated(letters, claim.index)
            summed = [d for d, letter in enumerate(own) if letter not in right]
            whole = coordinates(index, claim.cells, claim.by_sample)
            if whole is None:
                continue
            picked = None
            if len(whole.dims) == 1 and whole.dims[0] in summed:
                along = own[whole.dims[0]]
                is_only = given.has_one_axis
                picked = _selected(call, whole, along, matrices, right, axis, samples, is_only)
            if picked is None:
                unpicked.append((axis, whole))
            else:
                parts += [(picked[0], axis, kept) for kept in picked[1]]
        parts += [(own, axis, kept) for axis, kept in mixed_on_axes(unpicked, summed)]
        for left_over, axis, kept in parts:
            order = [left_over.index(letter) for letter in right if letter in left_over]
            rest = [d for d in range(len(left_over)) if d not in order]
            size_of = dict(zip(left_over, kept.index.shape, strict=True))
            arranged = kept.index.permute([*order, *rest])
            arranged = arranged.reshape([size_of.get(letter, 1) for letter in right])
            found.append((axis, kept.moved(arranged)))
    return [places(output.shape, found)]


def _as_mask(constant: Any, own: str, letters: str, kept: str) -> Tensor | None:
    """A constant by which the elements of a tensor are multiplied before they are summed.

    It has only dimensions of the tensor. A matrix of one column counts as a vector. Masked weights
    that depend on the input, as of an attention pooling, count as ones and zeros.

    Args:
        constant: A tensor operand.
        own: Its letters.
        letters: The letters of the tensor.
        kept: The letters of the result.

    Returns:
        The constant, broadcastable to the tensor; None for another operand.
    """
    along = {letter for letter, size in zip(own, constant.shape, strict=True) if size != 1}
    if along <= set(kept) or not along <= set(letters):
        return None
    if any(own.count(letter) > 1 or letters.count(letter) > 1 for letter in along):
        return None  # it multiplies a diagonal
    if any(claims_of(constant)):
        shown = kept_by_mask(constant)
        if shown is None or places_in_sums(constant, range(constant.dim())) is places_of(constant):
            return None
        constant = (shown.to(constant.device) | (constant != 0)).double()
    order = [letter for letter in letters if letter in along]
    mask = torch.einsum(f"{own}->{''.join(order)}", constant.detach().to_dense())
    sizes = dict(zip(order, mask.shape, strict=True))
    return mask.reshape([sizes.get(letter, 1) for letter in letters])


def _samples_by_letter(given: Places, letters: str) -> dict[str, Coordinates]:
    """The samples of the elements, by the letter of the dimension that they are along."""
    found = {}
    for claim in given.samples:
        own, index = _without_repeated(letters, claim.index)
        if len(claim.dims) == 1:
            found[own[claim.dims[0]]] = Coordinates(index.flatten(), claim.cells)
    return found


def _without_repeated(letters: str, index: Tensor) -> tuple[str, Tensor]:
    """Takes the diagonal of an index whose dimensions have the same letter, as einsum does."""
    for letter in [letter for letter in letters if letters.count(letter) > 1]:
        while letters.count(letter) > 1:
            first = letters.index(letter)
            second = letters.index(letter, first + 1)
            size = max(index.shape[first], index.shape[second])
            sizes = list(index.shape)
            sizes[first] = sizes[second] = size
            index = index.expand(sizes).diagonal(0, first, second)
            letters = letters[:second] + letters[second + 1 :]
            letters = letters[:first] + letters[first + 1 :] + letter
    return letters, index


def _selected(
    call: Call,
    claim: Coordinates,
    letter: str,
    operands: Sequence[tuple[str, Any]],
    kept: str,
    axis: Axis,
    samples: Mapping[str, Coordinates],
    is_only: bool,
) -> tuple[str, list[Coordinates]] | None:
    """The coordinates of sums of elements that a constant matrix selects, and their letters.

    A sum has the cells of its summands if these are few, else the smallest cell that holds them.
    None if the matrix does not select, or if sums cover more than half of the axis on average.

    Args:
        call: The call.
        claim: The coordinates of the elements, along one dimension.
        letter: The letter of this dimension.
        operands: The letters of each tensor, and the tensor.
        kept: The letters of the result.
        axis: The axis of the coordinates.
        samples: The samples of the elements, by the letter of the dimension that they are along.
        is_only: Whether no other axis has places.
    """
    everywhere = "".join(letters for letters, _ in operands)
    constants = [
        (letters, tensor)
        for letters, tensor in operands
        if letters.count(letter) == 1 and not any(claims_of(tensor))
    ]
    if len(constants) != 1:
        return None
    ((letters, constant),) = constants
    inner = [d for d, each in enumerate(letters) if each not in kept and each != letter]
    if any(everywhere.count(letters[d]) > 1 for d in inner):
        return None
    if not _selects(call, constant):
        return None
    used = constant.detach().to_dense().cpu() != 0
    if inner:  # the result is summed over several matrices
        used = used.any(inner)
        letters = "".join(each for d, each in enumerate(letters) if d not in inner)
    dim = letters.index(letter)
    shared = len(samples[letter].cells) if letter in samples else 1
    for row in reversed(range(used.dim())):
        if row != dim and _keeps_each(used, row, dim, shared):
            call.picks = True
            return letters[row], [Coordinates(claim.index.reshape([-1]), claim.cells)]
    rest = [size for d, size in enumerate(used.shape) if d != dim]
    sums = torch.arange(math.prod(rest), device="cpu").reshape(rest).unsqueeze(dim)
    numbers = _along(claim, letters, letter).index.where(used, 0)
    of_summands = [
        _along(each, letters, own)
        for own, each in samples.items()
        if own in letters and used.shape[letters.index(own)] > 1
    ]
    summands = Summands(claim, numbers, sums, rest)
    found = cells_of_sums(summands, axis, (*of_summands, None)[0], is_only)
    if not found:
        return None
    call.picks = True
    return letters.replace(letter, ""), found


def _along(claim: Coordinates, letters: str, letter: str) -> Coordinates:
    """Reshapes coordinates along one dimension, so that they broadcast to the matrix."""
    return Coordinates(
        claim.index.reshape([-1 if each == letter else 1 for each in letters]), claim.cells
    )


def _keeps_each(used: Tensor, row: int, column: int, shared: int) -> bool:
    """Whether new element ``i`` is a sum of old element ``i`` and few others, for all ``i``.

    A banded matrix is then treated as a convolution, and the nodes of a graph keep their places.
    ``used`` is where the matrices are not zero, with old elements along ``column`` and new elements
    along ``row``. Several samples, ``shared``, may be along the dimension of the old elements.
    """
    return (
        used.shape[row] == used.shape[column]
        and bool(used.diagonal(dim1=row, dim2=column).all())
        and float(wide(used).mean()) * shared <= 0.5
    )


def _selects(call: Call, constant: Tensor) -> bool:
    """Whether a constant selects elements by its zeros; notes it on the call."""
    is_dense = not has_zeros(constant)
    call.is_dense = is_dense and call.is_dense is not False
    return not is_dense


def has_zeros(constant: Tensor) -> bool:
    """Whether a constant matrix has zeros; a large one counts as dense without a check."""
    if constant.layout != torch.strided:
        return True
    return (
        constant.is_floating_point()
        and constant.numel() <= _MOST_CHECKED
        and bool((constant == 0).any())
    )
