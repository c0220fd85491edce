"""Operations that only move elements. Their biases are their constant arguments, moved."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, identity
from captum_tgrad.decomposition.call import Call, Operation
from captum_tgrad.decomposition.operations.helpers import records
from captum_tgrad.decomposition.places.rules import elementwise, indexing, mixing, moving, padding


def no_bias(call: Call, output: Tensor) -> Bias | None:
    """No bias, because the operation is homogeneous of degree one."""
    return None


def constants(call: Call, output: Tensor) -> Bias | None:
    """``b = op(0)``, for an operation that copies its arguments or is linear in them."""
    return None if _fills_in_nothing(call) else _of_zeros(call)


def joined(call: Call, output: Tensor) -> Bias | None:
    """As :func:`constants`, for ``cat`` and similar, where integers are elements as well."""
    return _of_zeros(call) if call.constant else None


def _of_zeros(call: Call) -> Bias:
    result, *_ = call.run_on(lambda t: torch.zeros_like(t) if t.requires_grad else t)
    return Bias(identity, finite(result))


def _fills_in_nothing(call: Call) -> bool:
    """Whether the only constants that a call writes are the numbers 0 and, in masks, infinity."""
    if any(tensor.is_floating_point() or tensor.is_complex() for tensor in call.constant):
        return False  # the others are indices or masks
    return all(map(_is_nothing, call.filled.values()))


def _is_nothing(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.requires_grad
    return not value or (isinstance(value, (int, float)) and math.isinf(value))


def finite(constant: Tensor) -> Tensor:
    """Replaces the ``-inf`` of a mask by 0: masked elements have no gradient."""
    return torch.where(constant.isinf(), 0, constant)


OPERATIONS: dict[str, Operation] = {
    **records(
        "permute transpose swapaxes swapdims t T mT H mH adjoint movedim moveaxis squeeze "
        "unsqueeze select narrow split chunk tensor_split split_with_sizes unbind expand expand_as "
        "broadcast_to repeat tile repeat_interleave roll flip fliplr flipud rot90 diagonal diag "
        "tril triu fft_fftshift fft_ifftshift pixel_shuffle pixel_unshuffle channel_shuffle gather "
        "index_select take take_along_dim "
        "masked_select unfold hsplit vsplit dsplit atleast_1d atleast_2d atleast_3d "
        "broadcast_tensors meshgrid unsafe_chunk unsafe_split combinations getitem",
        places=moving.moved,
        bias=no_bias,
    ),
    **records(
        "view reshape flatten unflatten ravel reshape_as view_as",
        places=moving.reshaped,
        bias=no_bias,
    ),
    **records("as_strided", "input, size, stride, storage_offset=None", indexing.strided, no_bias),
    **records("cat concat concatenate", "tensors, dim=0", moving.concatenated, joined),
    **records("stack", "tensors, dim=0", moving.joined, joined),
    **records(
        "hstack vstack dstack row_stack column_stack block_diag cartesian_prod diagonal_scatter "
        "select_scatter slice_scatter",
        places=moving.joined,
        bias=joined,
    ),
    **records(
        "pad",
        "input, pad, mode='constant', value=None",
        padding.padded,
        constants,
        fill=(3, "value"),
    ),
    **records(
        "pad_sequence",
        "sequences, batch_first=False, padding_value=0.0, padding_side='right'",
        moving.joined,
        constants,
        fill=(2,),
    ),
    **records("setitem", places=moving.assigned, bias=constants, fill=(2,)),
    **records("index_put", "input, indices, values, accumulate=False", indexing.put, constants),
    **records("sparse_coo_tensor", "indices, values, size=None", indexing.sparse, no_bias),
    **records(
        "index_copy scatter index_fill slice_copy masked_scatter",
        places=moving.assigned,
        bias=constants,
        fill=(3, "value"),
    ),
    **records("copy fill", places=moving.assigned, bias=constants, fill=(1, "other", "value")),
    **records("zero", places=moving.assigned, bias=no_bias),
    **records("index_add scatter_add", "input, dim, index, src", indexing.added, constants),
    **records(
        "index_reduce scatter_reduce",
        "input, dim, index, src, reduce, include_self=True",
        places=indexing.added,
    ),
    **records("masked_fill", places=elementwise.elementwise, bias=constants, fill=(2, "value")),
    **records("view_as_real", places=mixing.paired, bias=no_bias),
    **records("view_as_complex", places=mixing.unpaired, bias=no_bias),
    **records(
        "where",
        places=elementwise.chosen,
        bias=constants,
        fill=(1, 2, "input", "self", "other"),
    ),
    **records(
        "clone contiguous to float double half bfloat16 type type_as cpu cuda requires_grad "
        "real imag positive cfloat cdouble coalesce to_dense to_sparse to_sparse_coo to_sparse_csr "
        "to_sparse_csc",
        places=elementwise.unchanged,
        bias=no_bias,
    ),
    **records("complex", places=elementwise.elementwise, bias=joined),
    **records(
        "sort argsort cummax cummin",
        "input, dim=-1, descending=False",
        indexing.by_indices,
        no_bias,
    ),
    **records("topk", "input, k, dim=-1, largest=True, sorted=True", indexing.by_indices, no_bias),
}

PATCHES = records(
    "unfold", "input, kernel_size, dilation=1, padding=0, stride=1", padding.unfolded, no_bias
)["unfold"]
"""``torch.nn.functional.unfold``, which shares its name with ``Tensor.unfold``."""
