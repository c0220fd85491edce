"""Operations that consist of several others, each of which has its own term."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.arithmetic import of_degree
from captum_tgrad.decomposition.operations.helpers import records
from captum_tgrad.decomposition.places.rules import elementwise, mixing
from captum_tgrad.decomposition.places.rules.grids import rank_of


def added_product(call: Call, output: Tensor) -> Bias | None:
    """``beta * input + alpha * first @ second``: the input, if it is a constant."""
    added, first, second, beta, _ = _values(call)
    if first.requires_grad == second.requires_grad:
        raise NoRuleError
    return None if added.requires_grad else Bias(partial(torch.mul, other=beta), added)


def bilinear(call: Call, output: Tensor) -> Bias | None:
    """A product, without a bias parameter."""
    if call.bound["bias"] is not None:
        raise NoRuleError
    return of_degree(len(call.dependent), output)


def another_depends(call: Call) -> bool:
    """Whether a tensor other than the first argument depends on the input."""
    return len(call.dependent) > 1 or call.dependent[0] is not call.args[0]


def with_bias(call: Call) -> Tensor:
    """A layer whose weight or sampling points depend on the input, and then its bias."""
    bias, always_has_one = call.bound["bias"], call.name == "deform_conv2d"
    if bias is None or (always_has_one and not bool(bias.any())):
        raise NoRuleError
    without = _with(call, bias=torch.zeros_like(bias) if always_has_one else None)
    result: Tensor = without + bias.reshape(bias.shape + (1,) * rank_of(call.name))
    return result


def with_scale(call: Call) -> Tensor:
    """A normalization, and then its weight and its bias, which depend on the input."""
    weight, bias = (call.bound.get(name) for name in ("weight", "bias"))
    if weight is None and bias is None:
        raise NoRuleError
    result = _with(call, weight=None, bias=None)
    after = 0 if call.name in ("layer_norm", "rms_norm") else result.dim() - 2
    for each, combine in ((weight, torch.mul), (bias, torch.add)):
        if each is not None:
            result = combine(result, each.reshape(each.shape + (1,) * after))
    return result


def _with(call: Call, **changed: Any) -> Tensor:
    """The result of the call with other values of some arguments."""
    names = list(call.record.parameters)
    args = [changed.get(name, value) for name, value in zip(names, call.args, strict=False)]
    result: Tensor = call.func(*args, **{k: v for k, v in call.kwargs.items() if k not in changed})
    return result


def _matrices(call: Call) -> Tensor:
    """``addmm`` and similar operations: a product of matrices or vectors plus a tensor."""
    added, first, second, beta, alpha = _values(call)
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
    added, first, second, value = _values(call)
    combined = first * second if call.name == "addcmul" else first / second
    return _sum(call, added, combined, 1, value)


def _between(call: Call) -> Tensor:
    """``lerp``. With a constant weight it is one sum."""
    start, end, weight = _values(call)
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
    first, second, dim, eps = _values(call)
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


def _values(call: Call) -> list[Any]:
    """The arguments in the order of the record's parameters; raises NoRuleError for others."""
    bound = call.bound
    if bound.keys() != call.record.parameters.keys():  # such as ``out``
        raise NoRuleError
    return [bound[name] for name in call.record.parameters]


def _chain(call: Call) -> Tensor:
    """A product of several matrices."""
    return reduce(Tensor.matmul, call.tensors)


def _kronecker(call: Call) -> Tensor:
    """The Kronecker product: each element of the first tensor times the second tensor."""
    first, second = _values(call)
    first, second = _of_one_rank(first, second)
    sizes = [a * b for a, b in zip(first.shape, second.shape, strict=True)]
    for dim in range(len(sizes)):
        first, second = first.unsqueeze(2 * dim + 1), second.unsqueeze(2 * dim)
    products: Tensor = first * second
    return products.reshape(sizes)


def _grouped(call: Call) -> Tensor:
    """``grouped_mm``: the product of each group of rows with its own matrix."""
    rows, matrices, ends, bias, dtype = _values(call)
    if rows.dim() != 2 or matrices.dim() != 3 or bias is not None or dtype is not None:
        raise NoRuleError
    sizes = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
    if not rows.numel() or sum(sizes) != len(rows):  # the other rows are not computed
        raise NoRuleError
    groups = zip(sizes, rows.split(sizes), matrices.unbind(), strict=True)
    return torch.cat([group @ matrix for size, group, matrix in groups if size])


def _short_time_fourier(call: Call) -> Tensor:
    """``stft`` without its padding: the Fourier transform of each frame times the window."""
    x, size, step, length, window, normalized, onesided, as_complex, aligned = _values(call)
    if aligned is not None or isinstance(onesided, str):  # the form that has a padding mode
        raise NoRuleError
    length = size if length is None else length
    if window is None and length != size:
        window = x.new_ones(length)
    frames = x.unfold(-1, size, size // 4 if step is None else step)
    if window is not None:
        before = (size - length) // 2
        frames = frames * F.pad(window, (before, size - length - before))
    if onesided is None:
        onesided = not frames.is_complex()
    transform = torch.fft.rfft if onesided else torch.fft.fft
    result = transform(frames, norm="ortho" if normalized else None).transpose(-2, -1)
    if as_complex is None:
        as_complex = frames.is_complex()
    return result if as_complex else torch.view_as_real(result)


def _inverse_short_time_fourier(call: Call) -> Tensor:
    """``istft``: the inverse transforms of all frames times the window, added up."""
    values = _values(call)
    x, size, step, length, window, is_centered, normalized, _, until, as_complex = values
    if as_complex or x.dim() not in (2, 3):
        raise NoRuleError
    step, length = step or size // 4, length or size
    window = x.new_ones(length).real if window is None else window
    before = (size - length) // 2
    window = F.pad(window, (before, size - length - before))
    half = x[..., : size // 2 + 1, :]  # of a whole spectrum, torch reads only this part
    frames = torch.fft.irfft(half.mT, n=size, norm="ortho" if normalized else None) * window
    end, start = size + step * (x.shape[-1] - 1), size // 2 if is_centered else 0
    kept = slice(start, end - start if until is None else start + until)

    def added_up(frames: Tensor) -> Tensor:
        return F.fold(frames.mT, (1, end), (1, size), stride=(1, step))[..., 0, 0, kept]

    result = added_up(frames) / added_up((window * window).expand(x.shape[-1], size))
    return F.pad(result, (0, until - result.shape[-1])) if until else result


def _segments(call: Call) -> Tensor:
    """``segment_reduce`` of segments that are not empty."""
    rows, kind, lengths, indices, offsets, dim, _, initial = _values(call)
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
    index, table, offsets, max_norm, _, _, mode, _, weights, has_end, padding = _values(call)
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

SHORT_TIME_FOURIER = records(
    "stft",
    "input, n_fft, hop_length=None, win_length=None, window=None, normalized=False, onesided=None, "
    "return_complex=None, align_to_window=None",
    parts=_short_time_fourier,
)["stft"]

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
        "istft",
        "input, n_fft, hop_length=None, win_length=None, window=None, center=True, "
        "normalized=False, onesided=None, length=None, return_complex=False",
        parts=_inverse_short_time_fourier,
    ),
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
    **records(
        "bilinear", "input1, input2, weight, bias=None", mixing.bilinear, bilinear, parts=with_bias
    ),
}
