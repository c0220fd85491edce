"""Scaled dot-product attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.operations.helpers import records, require_constant
from captum_tgrad.decomposition.places.origin import coordinates_of
from captum_tgrad.decomposition.places.rules import mixing
from captum_tgrad.decomposition.precision import FULL, HALF

# With x <= 0 as the gradient and the input, this is ``x * exp(x)``, in one pass.
_times_exp = torch.ops.aten.elu_backward.grad_input

# With fewer keys, preparing to use the logsumexp takes longer than it saves.
_KEYS_PER_CHANNEL = 8

# On a CPU, larger blocks do not fit in the cache.
_BLOCK_OF_SCORES = 2**19
_BLOCK_OF_SCORES_ELSEWHERE = 2**24


def attention(call: Call, output: Tensor) -> Bias | None:
    """``b = y (1 - v) - k ((A * S) V - rowsum(A * S) y)``.

    ``S = Q K' / sqrt(d)`` are the scores, ``A`` is their softmax after the mask, and ``y = A V``. v
    is 1 if the values depend on the input, else 0; k is how many of queries and keys do.
    """
    names = ("query", "key", "value", "attn_mask", "is_causal", "scale", "enable_gqa")
    query, key, value, mask, causal, scale, grouped = (call.bound[name] for name in names)
    if call.bound["dropout_p"] or query.dim() != output.dim():
        raise NoRuleError
    require_constant(mask)
    depends = [tensor.requires_grad for tensor in (query, key, value)]
    node = output.grad_fn
    return bias_of_attention(output, query, key, value, depends, node, mask, causal, scale, grouped)


def pooling_in_parts(call: Call) -> Tensor:
    """Attention pooling as scores, softmax and sum, whose terms are at the positions of the keys.

    Its queries have no positions, as a class token.
    """
    names = ("query", "key", "value", "attn_mask", "scale", "dropout_p", "is_causal", "enable_gqa")
    query, key, value, mask, scale, *others = (call.bound[name] for name in names)
    in_half = query.dtype in HALF or torch.is_autocast_enabled(query.device.type)
    if in_half or any(others) or _has_positions(query):
        raise NoRuleError
    of_scores = any(tensor is not None and tensor.requires_grad for tensor in (query, key, mask))
    if not of_scores or not (_has_positions(key) or _has_positions(value)):
        raise NoRuleError
    scores, hidden = (query * _scale_of(query, scale)) @ key.mT, None
    if mask is not None:
        scores = _with_mask(scores, mask)
        shown = mask if mask.dtype == torch.bool else ~mask.isneginf()
        hidden = ~shown.any(-1, keepdim=True)
    if hidden is None or not hidden.any():
        weights = scores.softmax(-1)
    else:  # fused attention returns zeros for a query that sees no key; a softmax would be NaN
        weights = scores.masked_fill(hidden, 0).softmax(-1).masked_fill(hidden, 0)
    result: Tensor = weights @ value
    return result


def _scale_of(query: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(query.shape[-1]) if scale is None else scale


def _has_positions(tensor: Tensor) -> bool:
    return any(axis.is_spatial and axis.extent > 1 for axis, _ in coordinates_of(tensor))


def bias_of_attention(
    output: Tensor, query: Tensor, key: Tensor, value: Tensor, depends: list[bool], node: Any,
    mask: Tensor | None, causal: bool, scale: float | None, grouped: bool = False,
) -> Bias:  # fmt: skip
    """As :func:`attention`, from the tensors, and which of the first three depend on the input.

    Fused attention, as on a CPU, saves ``log(rowsum(exp(S)))`` after the mask in its node.
    """
    logsumexp: Tensor | None = getattr(node, "_saved_logsumexp", None)
    *of_scores, of_values = depends
    degree = sum(of_scores)
    factor = _scale_of(query, scale)
    masks = () if mask is None else (mask.reshape([1] * (2 - mask.dim()) + list(mask.shape)),)
    sums: tuple[Tensor, ...] = ()
    if (
        logsumexp is not None
        and key.shape[-2] > _KEYS_PER_CHANNEL * query.shape[-1]
        and output.dtype in FULL  # others round y too coarsely
        and (mask is None or mask.dtype == torch.bool)  # others are added to the scores
    ):
        sums = (logsumexp.unsqueeze(-1),)

    def compute(y: Tensor, q: Tensor, k: Tensor, v: Tensor, *further: Tensor) -> Tensor:
        if grouped:  # queries have more heads than keys and values
            k, v = (t.repeat_interleave(q.shape[-3] // t.shape[-3], -3) for t in (k, v))
        own = further[: len(masks)], causal, further[len(masks) :]
        found = _of_scores(y, q * factor, k, v, *own).mul_(-degree)
        return found if of_values else found.add_(y)

    uncut = tuple(range(max(output.dim() - 3, 0), output.dim()))
    return Bias(compute, output, query, key, value, *masks, *sums, uncut=uncut)


def _of_scores(
    y: Tensor, q: Tensor, k: Tensor, v: Tensor, masks: Sequence[Tensor], causal: bool,
    logsumexp: Sequence[Tensor],
) -> Tensor:  # fmt: skip
    """``(A * S) V - rowsum(A * S) y`` in blocks of queries, so that memory is linear in tokens.

    If the logsumexp of each row is known, ``S`` is shifted below zero, for which one operation
    computes ``S exp(S)``.
    """
    factor = None
    if logsumexp:
        q, k, factor = _shifted_below_zero(q, k, *logsumexp)
    batch = y.shape[:-2]
    count, queries, keys = math.prod(batch), q.shape[-2], k.shape[-2]
    q, k, v = (t.expand(*batch, *t.shape[-2:]).reshape(count, *t.shape[-2:]) for t in (q, k, v))
    block = _BLOCK_OF_SCORES if y.is_cpu else _BLOCK_OF_SCORES_ELSEWHERE
    rows = min(queries, max(1, block // max(1, count * keys)))
    # All blocks use the same memory. Allocating memory for each would take longer than the
    # arithmetic, and fragment the memory.
    memory = q.new_empty(2, count * rows * keys)
    found = torch.empty_like(y)
    for start in range(0, queries, rows):
        part = slice(start, start + rows)
        shape = (*q[:, part].shape[:2], keys)
        scores, weights = (each[: math.prod(shape)].view(shape) for each in memory)
        torch.bmm(q[:, part], k.transpose(1, 2), out=scores)
        allowed = _masked(scores.view(*batch, *shape[1:]), masks, causal, part).view(shape)
        if logsumexp:
            weights = _times_exp(allowed, 1, 1, 1, False, allowed, grad_input=allowed)
        else:
            torch.softmax(allowed, -1, out=weights)
            weights.mul_(scores)
        if masks or causal:
            weights.nan_to_num_(0)  # NaN in rows that are masked as a whole
        sums = weights.sum(-1, keepdim=True).view(*batch, -1, 1)
        moved = torch.bmm(weights, v).view(*batch, *shape[1:2], -1)
        found[..., part, :] = moved.addcmul_(sums, y[..., part, :], value=-1)
    return found if factor is None else found.mul_(factor)


def _shifted_below_zero(q: Tensor, k: Tensor, logsumexp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys whose scores are at most zero, and ``exp(S)`` by that of these scores.

    The constant that is subtracted from a row of ``S`` cancels.
    """
    # No score exceeds either of these. The smaller one keeps the rounding errors small.
    of_queries, of_keys = ((t * t).sum(-1, keepdim=True) for t in (q, k))
    limit = (of_queries * of_keys.amax(-2, keepdim=True)).sqrt_()
    shift = torch.minimum(logsumexp, limit)
    q, k = F.pad(q, (0, 1)), F.pad(k, (0, 1), value=1)
    q[..., -1:].sub_(shift)
    return q, k, (shift - logsumexp).exp_()


def _with_mask(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, -torch.inf)
    return scores + mask


def _masked(scores: Tensor, masks: Sequence[Tensor], causal: bool, part: slice) -> Tensor:
    """The masked scores of a block of queries."""
    for mask in masks:
        scores = _with_mask(scores, mask[..., part, :] if mask.shape[-2] != 1 else mask)
    if causal:
        rows, keys = scores.shape[-2:]
        places = torch.arange(keys, device=scores.device)
        queries = torch.arange(part.start, part.start + rows, device=scores.device)
        scores = scores.masked_fill(places > queries[:, None], -torch.inf)
    return scores


OPERATIONS: dict[str, Operation] = records(
    "scaled_dot_product_attention",
    "query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, "
    "enable_gqa=False",
    mixing.attention,
    attention,
    parts=pooling_in_parts,
)
