"""Operations that mix elements along dimensions: products of matrices, sums, norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, channel_bias
from captum_tgrad.decomposition.call import Call, NoRuleError, Operation
from captum_tgrad.decomposition.copy_on_write import Readers
from captum_tgrad.decomposition.operations.arithmetic import homogeneous, of_degree, product
from captum_tgrad.decomposition.operations.helpers import records, require_constant
from captum_tgrad.decomposition.operations.layers_in_parts import another_depends, with_bias
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.places.rules import cumulative, mixing
from captum_tgrad.decomposition.places.rules.contraction import factor_of_sums
from captum_tgrad.decomposition.places.rules.fourier import transformed
from captum_tgrad.decomposition.precision import in_full_precision


def linear(call: Call, output: Tensor) -> Bias | None:
    """The bias parameter."""
    bias = call.bound["bias"]
    require_constant(bias)
    if call.bound["weight"].requires_grad:
        if bias is not None:
            raise NoRuleError
        return sum_of_products(call, output, mixing.inner)
    if bias is not None and bias.dim() > 1:
        raise NoRuleError  # a bias of each sample
    return None if bias is None else channel_bias(bias, 0)


def linear_in_one(call: Call, readers: Readers) -> Tensor:
    """A linear layer as one product of two matrices; see :func:`_in_one`."""
    bias, weight = call.bound["bias"], call.bound["weight"]
    if type(weight) is not Tensor:
        raise NoRuleError  # quantized weights may have no transpose
    result = _in_one(call.bound["input"], weight.t())
    return result if bias is None else result.add_(bias.to(result.dtype))  # as with autocast


def matmul_in_one(call: Call, readers: Readers) -> Tensor:
    """A product with a matrix on the right as one product of two matrices; see :func:`_in_one`."""
    return _in_one(call.bound["input"], call.bound["other"])


def _in_one(z: Tensor, matrix: Tensor) -> Tensor:
    """``z @ matrix`` as torch computes it if the matrix requires a gradient.

    If it is detached and ``z`` is not contiguous, as after a transpose of tokens, torch computes
    many small products, which takes several times longer.
    """
    if z.dim() < 3 or z.is_contiguous() or matrix.dim() != 2 or matrix.requires_grad:
        raise NoRuleError
    if not z.numel() or matrix.layout != torch.strided:
        raise NoRuleError
    product = z.reshape(-1, z.shape[-1]).mm(matrix)
    result: Tensor = _unsafe_view(product, [*z.shape[:-1], matrix.shape[-1]])
    return result


_unsafe_view = torch.ops.aten._unsafe_view.default


def differences(call: Call) -> Tensor:
    """``torch.diff``, which is ``x[1:] - x[:-1]``, n times."""
    names = ("input", "n", "dim", "prepend", "append")
    tensor, n, dim, before, after = (call.bound[name] for name in names)
    joined = [each for each in (before, tensor, after) if each is not None]
    result: Tensor = torch.cat(joined, dim) if len(joined) > 1 else tensor
    if not 0 < n <= result.shape[dim]:
        raise NoRuleError
    for _ in range(n):
        size = result.shape[dim] - 1
        result = result.narrow(dim, 1, size) - result.narrow(dim, 0, size)
    return result


def sum_of_products(
    call: Call, output: Tensor, of_call: Callable[[Call], mixing.Contraction]
) -> Bias | None:
    """``(1 - k) y`` if k factors depend on the input, at the positions that the sum removes."""
    bias = product(call, output)
    if bias is None:
        return None
    equation, tensors = of_call(call)
    found = factor_of_sums(equation, tensors)
    if found is None:
        return bias
    equation, factor = found
    pairs = mixing.pairs_at_factor(call, equation, tensors, factor)
    return bias_of_sums(equation, factor, tensors, output.shape, bias.scale, pairs)


def bias_of_sums(
    equation: str, factor: int, tensors: Sequence[Tensor], shape: Sequence[int], scale: float,
    places: Places,
) -> Bias:  # fmt: skip
    """The bias of ``y = einsum(equation, *tensors)`` at the elements of one factor, in pairs.

    An attention pooling ``y = sum a v`` has the same term as in two steps, where it is that of
    ``a * v``. Its elements ``e = scale * a v df/dy`` are too many, but ``sum e`` and ``sum |e|``
    at each element of ``v`` are products like y. From them follow the sums of the positive and of
    the negative elements, which are a pair.
    """
    left, right = equation.split("->")
    letters, tensors = left.split(","), [tensor.detach() for tensor in tensors]
    own, other_letters = letters.pop(factor), ",".join([right, *letters])
    kept = "".join(letter for letter in own if letter in other_letters)
    as_factor = tuple(slice(None) if letter in kept else None for letter in own)

    def at_factor(of_y: Tensor, *values: Tensor) -> Tensor:
        others = [*values[:factor], *values[factor + 1 :]]
        weights = torch.einsum(f"{other_letters}->{kept}", of_y, *others)
        elements = values[factor] * weights[as_factor]
        return elements.sum_to_size(values[factor].shape)  # it may have been broadcast

    def pairs(gradient: Tensor, *tensors: Tensor) -> Tensor:
        values = [in_full_precision(each) for each in (gradient.reshape(shape), *tensors)]
        signed, absolute = at_factor(*values), at_factor(*map(torch.abs, values))
        return torch.stack([signed + absolute, signed - absolute], -1).reshape(places.shape)

    return Bias(
        partial(tensors[factor].new_ones, ()),
        scale=scale / 2,
        from_gradient=pairs,
        places=places,
        constants=tensors,
        factor=factor,
    )


def vector_norm(call: Call, output: Tensor) -> Bias | None:
    """Homogeneous of degree one, except for p = 0, which counts nonzero elements."""
    if call.bound["p"] == 0:
        return of_degree(0, output)
    return homogeneous(call, output)


def solution(call: Call, output: Tensor) -> None:
    """Linear in the right-hand side."""
    require_constant(call.bound["A"])


def bilinear(call: Call, output: Tensor) -> Bias | None:
    """A product, without a bias parameter."""
    if call.bound["bias"] is not None:
        raise NoRuleError
    return of_degree(len(call.dependent), output)


def _product(
    names: str, parameters: str = "", of_call: Any = mixing.matrices, **known: Any
) -> dict[str, Operation]:
    """Records of sums of products of tensors."""
    places = partial(mixing.contraction, of_call=of_call)
    bias = partial(sum_of_products, of_call=of_call)
    return records(names, parameters, places, bias, **known)


_reduction = partial(records, places=mixing.reduced)
_transform = partial(records, places=transformed, bias=homogeneous)
_REDUCED = "input, dim=None, keepdim=False"

OPERATIONS: dict[str, Operation] = {
    **records(
        "linear",
        "input, weight, bias=None",
        mixing.linear,
        linear,
        form=linear_in_one,
        parts=with_bias,
        parts_if=another_depends,
    ),
    **records(
        "bilinear", "input1, input2, weight, bias=None", mixing.bilinear, bilinear, parts=with_bias
    ),
    **_product("matmul linalg_matmul", "input, other", form=matmul_in_one),
    **_product("bmm mm sparse_mm mv dot vdot", "input, other"),
    **records(
        "linalg_solve_triangular",
        "A, B, upper=False, left=True, unitriangular=False",
        mixing.solved,
        solution,
    ),
    **_product("einsum", of_call=mixing.einsum),
    **_product("tensordot", "a, b, dims=2", of_call=mixing.tensordot),
    **_product("outer ger", "input, other", of_call=mixing.outer),
    **_product("inner", "input, other", of_call=mixing.inner),
    **records("cdist", "x1, x2, p=2.0, compute_mode=None", places=mixing.distances),
    **_reduction("sum mean nansum nanmean amax amin max min median", _REDUCED, bias=homogeneous),
    **_reduction("prod logsumexp", _REDUCED),
    **_reduction("kthvalue", "input, k, dim=-1, keepdim=False", bias=homogeneous),
    **_reduction("std", "input, dim=None, unbiased=True, keepdim=False", bias=homogeneous),
    **_reduction(
        "var", "input, dim=None, unbiased=True, keepdim=False", bias=lambda call, y: of_degree(2, y)
    ),
    **_reduction("norm", "input, p='fro', dim=None, keepdim=False", bias=vector_norm),
    **_reduction("linalg_vector_norm", "input, p=2, dim=None, keepdim=False", bias=vector_norm),
    **records("trace", bias=homogeneous),
    **records(
        "diff",
        "input, n=1, dim=-1, prepend=None, append=None",
        bias=homogeneous,
        parts=differences,
    ),
    **records("cumsum", "input, dim", cumulative.running, homogeneous),
    **_transform(
        "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft", "input, n=None, dim=-1, norm=None"
    ),
    **_transform(
        "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2", "input, s=None, dim=(-2,-1), norm=None"
    ),
    **_transform("fft_fftn fft_ifftn fft_rfftn fft_irfftn", "input, s=None, dim=None, norm=None"),
}
