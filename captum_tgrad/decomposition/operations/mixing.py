"""Operations that mix elements along dimensions: products of matrices, sums, norms, attention."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ChannelBias, ElementBias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.arithmetic import homogeneous, of_degree, product
from captum_tgrad.decomposition.operations.operation import records, require_constant
from captum_tgrad.decomposition.places import elementwise
from captum_tgrad.decomposition.places import mixing_places as mixing

# On a CPU, larger blocks do not fit in the cache, and each needs new memory from the system.
_BLOCK_OF_SCORES = {"cpu": 2**18}
_BLOCK_OF_SCORES_ELSEWHERE = 2**24


def linear(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    bias = call.bound["bias"]
    require_constant(call.bound["weight"], bias)
    return None if bias is None else ChannelBias(bias, output.dim() - 1)


def added_product(call: Call, output: Tensor) -> Bias | None:
    """``beta * input + alpha * first @ second``: the input, if it is a constant."""
    names = ("input", "first", "second", "beta")
    added, first, second, beta = (call.bound[name] for name in names)
    if first.requires_grad == second.requires_grad:
        raise NoRuleError
    if added.requires_grad:
        return None
    return ElementBias(partial(torch.mul, other=beta), added)


def vector_norm(call: Call, output: Tensor) -> Bias | None:
    """Of degree one, except for p = 0, the number of nonzero elements."""
    if call.bound["p"] == 0:
        return of_degree(0, output)
    return homogeneous(call, output)


def standard_deviation(call: Call, output: Tensor) -> Bias | None:
    """A standard deviation is of degree one, a variance of degree two."""
    return of_degree(2 if call.name == "var" else 1, output)


def attention(call: Call, output: Tensor) -> Bias | None:
    """``b = y (1 - v) - k ((A * S) V - rowsum(A * S) y)``.

    With the scores ``S = Q K' / sqrt(d)``, their softmax ``A`` after the mask, ``y = A V``; v is 1
    if the values depend on the input, k counts which of queries and keys do.
    """
    names = ("query", "key", "value", "attn_mask", "is_causal", "scale")
    query, key, value, mask, causal, scale = (call.bound[name] for name in names)
    if call.bound["dropout_p"] or query.dim() != output.dim():
        raise NoRuleError
    require_constant(mask)
    degree = int(query.requires_grad) + int(key.requires_grad)
    of_values = int(value.requires_grad)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale

    def compute(y: Tensor, q: Tensor, k: Tensor, v: Tensor, *masks: Tensor) -> Tensor:
        batch = math.prod(y.shape[:-2])
        if k.dim() > 2 and k.shape[-3] != q.shape[-3]:  # grouped queries
            k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
        block = _BLOCK_OF_SCORES.get(y.device.type, _BLOCK_OF_SCORES_ELSEWHERE)
        rows = max(1, block // max(1, batch * k.shape[-2]))
        # One tensor for all blocks: separate results would fragment the memory.
        found = torch.empty_like(y)
        for start in range(0, q.shape[-2], rows):
            part = y[..., start : start + rows, :]
            scores = (q[..., start : start + rows, :] * factor) @ k.transpose(-1, -2)
            allowed = scores
            for bias in masks:
                own = bias[..., start : start + rows, :] if bias.shape[-2] != 1 else bias
                if own.dtype == torch.bool:
                    allowed = allowed.masked_fill(~own, -torch.inf)
                else:
                    allowed = allowed + own
            if causal:
                places = torch.arange(k.shape[-2], device=y.device)
                queries = torch.arange(start, start + part.shape[-2], device=y.device)
                allowed = allowed.masked_fill(places > queries[:, None], -torch.inf)
            weights = allowed.softmax(-1).mul_(scores)
            if masks or causal:
                weights = weights.nan_to_num_(0)  # where everything is masked
            moved = weights @ v - weights.sum(-1, keepdim=True) * part
            found[..., start : start + rows, :] = part * (1 - of_values) - degree * moved
        return found

    masks = () if mask is None else (mask.reshape([1] * (2 - mask.dim()) + list(mask.shape)),)
    uncut = tuple(range(max(output.dim() - 3, 0), output.dim()))
    return ElementBias(compute, output, query, key, value, *masks, uncut=uncut)


_REDUCED = "input, dim=None, keepdim=False"

OPERATIONS: dict[str, Operation] = {
    **records("linear", "input, weight, bias=None", places=mixing.linear, bias=linear),
    **records(
        "matmul rmatmul bmm mm mv dot vdot",
        "input, other",
        places=mixing.matmul,
        bias=product,
    ),
    **records("einsum", places=mixing.einsum, bias=product),
    **records("tensordot", "a, b, dims=2", places=mixing.tensordot, bias=product),
    **records("outer ger", "input, other", places=mixing.outer, bias=product),
    **records("inner", "input, other", places=mixing.inner, bias=product),
    **records("kron chain_matmul", places=None, bias=product),
    **records(
        "addmm addmv baddbmm",
        "input, first, second, beta=1, alpha=1",
        places=mixing.added_product,
        bias=added_product,
    ),
    **records("bilinear", "input1, input2, weight, bias=None", places=mixing.bilinear),
    **records(
        "sum mean nansum nanmean amax amin max min median",
        _REDUCED,
        places=mixing.reduced,
        bias=homogeneous,
    ),
    **records("prod logsumexp", _REDUCED, places=mixing.reduced),
    **records(
        "kthvalue",
        "input, k, dim=-1, keepdim=False",
        places=mixing.reduced,
        bias=homogeneous,
    ),
    **records(
        "std var",
        "input, dim=None, unbiased=True, keepdim=False",
        places=mixing.reduced,
        bias=standard_deviation,
    ),
    **records(
        "norm",
        "input, p='fro', dim=None, keepdim=False",
        places=mixing.reduced,
        bias=vector_norm,
    ),
    **records(
        "linalg_vector_norm",
        "input, p=2, dim=None, keepdim=False",
        places=mixing.reduced,
        bias=vector_norm,
    ),
    **records("trace", bias=homogeneous),
    **records("diff", "input, n=1, dim=-1", places=mixing.differences, bias=homogeneous),
    **records("cumsum", "input, dim", places=elementwise.accumulated, bias=homogeneous),
    **records("glu", "input, dim=-1", places=mixing.halved),
    **records(
        "scaled_dot_product_attention",
        "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, "
        "enable_gqa=False",
        places=mixing.attention,
        bias=attention,
    ),
    **records(
        "fft_fft fft_ifft fft_rfft fft_irfft",
        "input, n=None, dim=-1, norm=None",
        places=mixing.transformed,
        bias=homogeneous,
    ),
    **records(
        "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2",
        "input, s=None, dim=(-2,-1), norm=None",
        places=mixing.transformed,
        bias=homogeneous,
    ),
    **records(
        "fft_fftn fft_ifftn fft_rfftn fft_irfftn",
        "input, s=None, dim=None, norm=None",
        places=mixing.transformed,
        bias=homogeneous,
    ),
}
