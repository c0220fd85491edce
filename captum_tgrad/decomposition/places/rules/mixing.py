"""Places after an operation that mixes elements along dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, ConstantsRead, NoRuleError
from captum_tgrad.decomposition.places.bounded_cache import BoundedCache
from captum_tgrad.decomposition.places.coordinates import SAMPLES
from captum_tgrad.decomposition.places.masks import places_in_sums
from captum_tgrad.decomposition.places.movement import Moved
from captum_tgrad.decomposition.places.origin import coordinates_of, places_of
from captum_tgrad.decomposition.places.places import Places, make_places, samples_only
from captum_tgrad.decomposition.places.rules.contraction import contracted
from captum_tgrad.decomposition.places.rules.elementwise import elementwise
from captum_tgrad.decomposition.places.rules.moving import rule_of_mover
from captum_tgrad.decomposition.places.rules.rule import Effect, places_rule
from captum_tgrad.decomposition.places.sums import mixed_on_axes


@places_rule(Effect.KEEPS_CONSTANTS)
def reduced(call: Call) -> list[Places]:
    """Places after a reduction, which mixes some dimensions and removes them or keeps size 1."""
    bound, (output, *_) = call.bound, call.returned
    tensor = bound["input"]
    if isinstance(bound.get("dim"), Tensor) or isinstance(bound.get("other"), Tensor):
        return elementwise(call)  # max and min of two tensors
    rank = tensor.dim()
    dim = None if isinstance(bound["dim"], bool) else bound["dim"]  # std(x, unbiased)
    over = {dim} if isinstance(dim, int) else set(dim if dim else range(rank))
    over = {each % max(rank, 1) for each in over}
    return [summed_along(tensor, over, output.shape)] * len(call.returned)


def summed_along(tensor: Tensor, dims: set[int], shape: Sequence[int]) -> Places:
    """Places after sums along ``dims``, without masked elements; as :func:`mixed_along`."""
    return mixed_along(places_in_sums(tensor, dims), dims, shape)


def mixed_along(places: Places | None, dims: set[int], shape: Sequence[int]) -> Places:
    """Places after ``dims`` were mixed; the new shape has them with size 1 or not at all."""
    keep = places is None or len(shape) == len(places.shape)
    coordinates = [
        (axis, left if keep else left.moved(left.index.squeeze(tuple(dims))))
        for axis, left in mixed_on_axes(places.pairs if places else (), dims)
    ]
    return make_places(shape, coordinates)


@rule_of_mover()
def paired(call: Call) -> Moved:
    """Places of the real and imaginary parts, in an additional last dimension."""
    (output,) = call.returned
    return lambda t: [t[0].unsqueeze(-1).expand(output.shape)], call.tensors


def places_in_pairs(places: Places) -> Places:
    """Places of complex numbers as pairs, in an additional last dimension."""
    pairs = [(axis, coords.moved(coords.index.unsqueeze(-1))) for axis, coords in places.pairs]
    return make_places((*places.shape, 2), pairs)


def pairs_at_factor(call: Call, equation: str, tensors: Sequence[Tensor], factor: int) -> Places:
    """The places of products summed at the elements of one factor, in pairs."""

    def found() -> Places:
        left, _ = equation.split("->")
        own = f"{left}->{left.split(',')[factor]}"
        return places_in_pairs(contracted(call, own, tensors, tensors[factor])[0])

    if call.constant:
        return found()  # their zeros may select elements
    places = [(places_of(each), places_in_sums(each, range(each.dim()))) for each in tensors]
    shapes = [each.shape for each in tensors]
    return _pairs.get_or((equation, factor, *places, *shapes), found)


_pairs: BoundedCache[Places] = BoundedCache(lambda places: places.numbers)
"""What :func:`pairs_at_factor` returns."""


@places_rule(Effect.MOVES, mover=lambda call: (lambda t: [t[0].amax(-1)], call.tensors))
def unpaired(call: Call) -> list[Places]:
    """Places of complex numbers, from pairs in the last dimension."""
    (tensor,) = call.tensors
    return [mixed_along(places_of(tensor), {tensor.dim() - 1}, call.returned[0].shape)]


@places_rule(added="input")
def added_product(call: Call) -> list[Places]:
    """Places after ``addmm`` and similar operations: a product of matrices plus a tensor."""
    (output,), names = call.returned, list(call.record.parameters)
    added, first, second = (call.bound[name] for name in names[:3])
    (product,) = contracted(call, *_of_matrices(first, second), output)
    aligned = [(axis, coords.aligned(output.dim())) for axis, coords in coordinates_of(added)]
    pairs = [*aligned, *product.pairs]
    return [make_places(output.shape, pairs, of_several=bool(aligned))]


@places_rule(added="bias")
def linear(call: Call) -> list[Places]:
    """Places after ``linear``."""
    return contraction(call, inner)


Contraction = tuple[str, Sequence[Any]]
"""An einsum equation, and the tensors that it multiplies."""


def contraction(call: Call, of_call: Callable[[Call], Contraction]) -> list[Places]:
    """Places after products are summed."""
    return contracted(call, *of_call(call), call.returned[0])


def matrices(call: Call) -> Contraction:
    """A product of matrices; the leading dimensions broadcast."""
    return _of_matrices(call.bound["input"], call.bound["other"])


def inner(call: Call) -> Contraction:
    """``linear`` without its bias, and ``inner``: sums over the last dimensions of both tensors."""
    one, other = (call.bound[name] for name in list(call.record.parameters)[:2])
    if one.dim() == 0 or other.dim() == 0:
        raise NoRuleError
    return _summed_along(one, other, ([one.dim() - 1], [other.dim() - 1]))


def solved(call: Call) -> list[Places]:
    """Places after ``solve_triangular``, a product with the inverse, which is triangular too."""
    matrix, known, is_left = (call.bound[name] for name in ("A", "B", "left"))
    if not matrix.requires_grad:  # its inverse may have fewer zeros
        one = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        matrix = call.func(matrix, one.expand_as(matrix), **call.kwargs)
    product = (matrix, known) if is_left else (known, matrix)
    return contracted(call, *_of_matrices(*product), call.returned[0])


def _of_matrices(left: Tensor, right: Tensor) -> Contraction:
    first = "...xy" if left.dim() > 1 else "y"
    second = "...yz" if right.dim() > 1 else "y"
    result = "..." + "x" * (left.dim() > 1) + "z" * (right.dim() > 1)
    return f"{first},{second}->{result}", [left, right]


def distances(call: Call) -> list[Places]:
    """Places after ``cdist``, the distances from rows of one tensor to rows of the other."""
    tensors = [call.bound["x1"], call.bound["x2"]]
    # Unlike in a product, zeros of a constant do not select elements: pass ones instead.
    ones = [t if t.requires_grad else t.new_ones(()).expand(t.shape) for t in tensors]
    return contracted(call, "...xy,...zy->...xz", ones, call.returned[0])


def outer(call: Call) -> Contraction:
    """An outer product."""
    return _summed_along(call.bound["input"], call.bound["other"], ([], []))


def bilinear(call: Call) -> list[Places]:
    """Places after a bilinear layer, which mixes the last dimensions of both tensors."""
    tensors = [call.bound["input1"], call.bound["input2"]]
    if not any(tensor.requires_grad for tensor in tensors):
        raise NoRuleError
    return contracted(call, "...x,...y->...z", tensors, call.returned[0])


def tensordot(call: Call) -> Contraction:
    """``tensordot``: sums over pairs of dimensions; the others are concatenated."""
    one, other, dims = call.bound["a"], call.bound["b"], call.bound["dims"]
    if isinstance(dims, int):
        dims = (range(one.dim() - dims, one.dim()), range(dims))
    if isinstance(dims, Tensor):
        dims = dims.tolist()
    first, second = ([each] if isinstance(each, int) else list(each) for each in dims)
    return _summed_along(one, other, (first, second))


def _summed_along(
    one: Tensor, other: Tensor, dims: tuple[Sequence[int], Sequence[int]]
) -> Contraction:
    """Products that are summed over pairs of dimensions of the two tensors."""
    left = list(ascii_lowercase[: one.dim()])
    right = list(ascii_lowercase[one.dim() : one.dim() + other.dim()])
    for i, j in zip(*dims, strict=True):
        right[j] = left[i]
    shared = set(left) & set(right)
    result = [letter for letter in [*left, *right] if letter not in shared]
    return f"{''.join(left)},{''.join(right)}->{''.join(result)}", [one, other]


def einsum(call: Call) -> Contraction:
    """An ``einsum``."""
    equation, *operands = call.args
    if not isinstance(equation, str):
        raise NoRuleError
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        right = "..." + "".join(sorted(each for each in letters if letters.count(each) == 1))
    return f"{left}->{right}", operands


def attention(call: Call) -> list[Places]:
    """Places after attention: each token has the place of its query; keys and values are mixed.

    Keys that a mask hides from all queries, such as padding, are left out. A mask that depends on
    the input has places as well. Samples that are packed into one sequence are told apart by the
    mask.
    """
    query, key, value = (call.bound[name] for name in ("query", "key", "value"))
    (output,) = call.returned
    if not query.dim() == key.dim() == value.dim():
        raise NoRuleError
    batch = shared = ascii_lowercase[: query.dim() - 2]
    if batch and key.shape[-3] != query.shape[-3]:
        shared = batch[:-1] + "v"  # grouped queries: keys and values have fewer heads

    def found(*masks: Tensor) -> Places:
        own = "".join(f",{(batch + 'wy')[-mask.dim() :]}" for mask in masks)
        equation = f"{batch}wx,{shared}yx,{shared}yz{own}->{batch}wz"
        return contracted(call, equation, [query, key, value, *masks], output)[0]

    mask = call.bound["attn_mask"]
    if not isinstance(mask, Tensor):
        return [found()]
    if mask.requires_grad:
        return [found(mask)]
    shows = mask if mask.dtype == torch.bool else mask.exp() != 0
    masks = []
    if _may_leave_out(mask, query, key, value):
        call.constants_read = ConstantsRead.VALUES  # another mask may hide other keys
        masks = [(shows.any(-2, keepdim=True) if mask.dim() > 1 else shows).double()]
    each = found(*masks)
    if each.knows_samples or not each.samples:
        return [each]
    call.constants_read = ConstantsRead.VALUES
    pairs = [(axis, coords) for axis, coords in each.pairs if axis.input != SAMPLES]
    return [make_places(output.shape, [*pairs, *samples_only(found(shows.double())).pairs])]


def _may_leave_out(mask: Tensor, query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the places of keys and values count, unlike where queries have places."""
    dim = query.dim() - 2
    of_queries = {axis for axis, coords in coordinates_of(query) if dim in coords.dims}
    of_others = {
        axis for each in (key, value) for axis, _ in coordinates_of(each) if axis.is_spatial
    }
    return mask.shape[-2:-1] == (1,) or not of_others <= of_queries
