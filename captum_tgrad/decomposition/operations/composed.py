"""Operations that consist of several others, each of which has its own term."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.helpers import records, values_of
from captum_tgrad.decomposition.places.rules import elementwise, mixing


def added_product(call: Call, output: Tensor) -> Bias | None:
    """``beta * input + alpha * first @ second``: the input, if it is a constant."""
    added, first, second, beta, _ = values_of(call)
    if first.requires_grad == second.requires_grad:
        raise NoRuleError
    return None if added.requires_grad else Bias(partial(torch.mul, other=beta), added)


def _matrices(call: Call) -> Tensor:
    """``addmm`` and similar operations: a product of matrices or vectors plus a tensor."""
    added, first, second, beta, alpha = values_of(call)
    product: Tensor = _MULTIPLY[call.name](first, second)
    if call.name == "addbmm":
        product = product.sum(0)
    if not call.in_place:
        added = added.to(product.dtype)  # with autocast, they have different types
    return _sum(call, added, product, beta, alpha)


_MULTIPLY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "addmm": torch.mm,
    "addmv": torch.mv,
    "addr": torch.outer,
    "addbmm": torch.bmm,
    "baddbmm": torch.bmm,
    "sparse_addmm": torch.sparse.mm,
}


def _elements(call: Call) -> Tensor:
    """``addcmul`` and ``addcdiv``: a product or a quotient plus a tensor."""
    added, first, second, value = values_of(call)
    combined = first * second if call.name == "addcmul" else first / second
    return _sum(call, added, combined, 1, value)


def _between(call: Call) -> Tensor:
    """``lerp``. With a constant weight it is one sum."""
    start, end, weight = values_of(call)
    if not any(weight is each for each in call.dependent):
        raise NoRuleError
    return _sum(call, start, weight * (end - start), 1, 1)


def _sum(call: Call, added: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """``beta * added + alpha * product``. If ``beta`` is 0, the values are not read."""
    if call.in_place:
        if beta != 1:
            added.mul_(beta) if beta else added.zero_()
        added.add_(product, alpha=alpha)
        return added
    if not beta:
        return torch.mul(product, alpha)
    return torch.add(added if beta == 1 else added * beta, product, alpha=alpha)


def _similarity(call: Call) -> Tensor:
    """``cosine_similarity``: both tensors divided by their norms, multiplied and summed."""
    first, second, dim, eps = values_of(call)
    first, second = _of_one_rank(first, second)
    if not first.dim() or first.shape[dim] != second.shape[dim]:
        raise NoRuleError
    result: Tensor = (first / _norm(first, dim, eps) * (second / _norm(second, dim, eps))).sum(dim)
    return result


def _of_one_rank(*tensors: Tensor) -> list[Tensor]:
    """Tensors with leading dimensions of size 1 added, as broadcasting does."""
    rank = max(tensor.dim() for tensor in tensors)
    return [tensor.reshape([1] * (rank - tensor.dim()) + list(tensor.shape)) for tensor in tensors]


def _norm(tensor: Tensor, dim: int, eps: float) -> Tensor:
    """The norm along a dimension, at least ``eps``; its gradient is always that of the norm."""
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dim, keepdim=True)
    missing = eps - norm.detach()
    return norm + missing.clamp_min(0) if bool((missing > 0).any()) else norm


def _chain(call: Call) -> Tensor:
    """A product of several matrices."""
    return reduce(Tensor.matmul, call.tensors)


def _kronecker(call: Call) -> Tensor:
    """The Kronecker product: each element of the first tensor times the second tensor."""
    first, second = values_of(call)
    first, second = _of_one_rank(first, second)
    sizes = [a * b for a, b in zip(first.shape, second.shape, strict=True)]
    for dim in range(len(sizes)):
        first, second = first.unsqueeze(2 * dim + 1), second.unsqueeze(2 * dim)
    products: Tensor = first * second
    return products.reshape(sizes)


def _grouped(call: Call) -> Tensor:
    """``grouped_mm``: the product of each group of rows with its own matrix."""
    rows, matrices, ends, bias, dtype = values_of(call)
    if rows.dim() != 2 or matrices.dim() != 3 or bias is not None or dtype is not None:
        raise NoRuleError
    sizes = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    if not rows.numel() or sum(sizes) != len(rows):  # the other rows are not computed
        raise NoRuleError
    groups = zip(sizes, rows.split(sizes), matrices.unbind(), strict=True)
    return torch.cat([group @ matrix for size, group, matrix in groups if size])


def _segments(call: Call) -> Tensor:
    """``segment_reduce`` of segments that are not empty."""
    rows, kind, lengths, indices, offsets, dim, _, initial = values_of(call)
    dim %= rows.dim()
    lengths = offsets.diff() if lengths is None else lengths
    if indices is not None or initial is not None or bool((lengths < 1).any()):
        raise NoRuleError
    number = torch.arange(lengths.shape[-1], device=rows.device).expand_as(lengths)
    number = number.flatten().repeat_interleave(lengths.flatten()).reshape(rows.shape[: dim + 1])
    number = number.reshape(number.shape + (1,) * (rows.dim() - number.dim())).expand_as(rows)
    zeros = rows.new_zeros([*rows.shape[:dim], lengths.shape[-1], *rows.shape[dim + 1 :]])
    kind = {"max": "amax", "min": "amin"}.get(kind, kind)
    result: Tensor = zeros.scatter_reduce(dim, number, rows, kind, include_self=False)
    return result


def _bags(call: Call) -> Tensor:
    """``embedding_bag`` of bags that are not empty: weighted rows of a table, added up."""
    index, table, offsets, max_norm, _, _, mode, _, weights, has_end, padding = values_of(call)
    if max_norm is not None or padding is not None or index.is_floating_point():
        raise NoRuleError
    lengths = None
    if index.dim() == 1:
        end = None if has_end else offsets.new_tensor([len(index)])
        lengths = offsets.diff(append=end)
        if bool((lengths < 1).any()):
            raise NoRuleError
    rows: Tensor = table[index]
    if weights is not None:
        rows = rows * weights.unsqueeze(-1)
    if lengths is not None:
        return torch.segment_reduce(rows, mode, lengths=lengths)
    if mode == "max":
        return rows.max(1).values
    return rows.sum(1) if mode == "sum" else rows.mean(1)


_added_product = partial(
    records,
    places=mixing.added_product,
    bias=added_product,
    parts=_matrices,
    parts_if=lambda call: len(call.dependent) > 1,
)

OPERATIONS: dict[str, Operation] = {
    **_added_product("addmm", "input, mat1, mat2, beta=1, alpha=1"),
    **_added_product("addmv", "input, mat, vec, beta=1, alpha=1"),
    **_added_product("baddbmm", "input, batch1, batch2, beta=1, alpha=1"),
    **records("addbmm", "input, batch1, batch2, beta=1, alpha=1", parts=_matrices),
    **records("sparse_addmm", "input, mat1, mat2, beta=1, alpha=1", parts=_matrices),
    **records("addr", "input, vec1, vec2, beta=1, alpha=1", parts=_matrices),
    **records("addcmul addcdiv", "input, tensor1, tensor2, value=1", parts=_elements),
    **records("lerp", "input, end, weight", places=elementwise.elementwise, parts=_between),
    **records("cosine_similarity", "x1, x2, dim=1, eps=1e-8", parts=_similarity),
    **records("chain_matmul linalg_multi_dot", parts=_chain),
    **records("grouped_mm", "input, mat2, offs=None, bias=None, out_dtype=None", parts=_grouped),
    **records("kron", "input, other", parts=_kronecker),
    **records(
        "segment_reduce",
        "data, reduce, lengths=None, indices=None, offsets=None, axis=0, unsafe=False, "
        "initial=None",
        parts=_segments,
    ),
    **records(
        "embedding_bag",
        "input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, "
        "mode='mean', sparse=False, per_sample_weights=None, include_last_offset=False, "
        "padding_idx=None",
        parts=_bags,
    ),
}
