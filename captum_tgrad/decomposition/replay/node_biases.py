"""Reads the biases of operations from the nodes of autograd's graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, SaturationBias, channel_bias, identity
from captum_tgrad.decomposition.operations import activations
from captum_tgrad.decomposition.operations.arithmetic import of_degree, summand
from captum_tgrad.decomposition.operations.attention import bias_of_attention
from captum_tgrad.decomposition.operations.clamps import bias_of_clamp
from captum_tgrad.decomposition.operations.normalizations import (
    bias_of_layer_norm,
    scale_and_shift,
    variance_of,
)
from captum_tgrad.decomposition.precision import HALF
from captum_tgrad.decomposition.replay.node_constants import (
    Node,
    has_constant,
    is_constant,
    parameter_of,
)
from captum_tgrad.decomposition.replay.products import (
    PRODUCTS_AND_VIEWS,
    bias_of_product,
    is_product,
)


def operations_of(node: Node) -> list[str]:
    """The names of the operations to which a node with a bias may belong; empty without one."""
    known = NODES_WITH_BIAS.get(type(node).__name__)
    return known.operations.split() if known is not None and known.has_bias(node) else []


def biases_of(nodes: Sequence[Node]) -> list[Bias | None]:
    """The biases of the nodes' operations; None if one has a parameter that is not in the graph."""
    affine: dict[Node, Tensor] = {}
    for node in nodes:
        if type(node).__name__ in _EPS and node._saved_weight is not None:
            bias = parameter_of(node, 2)
            if bias is not None:
                affine[node] = bias
    found = _of_batch_norms(affine)
    return [found.get(node) or NODES_WITH_BIAS[type(node).__name__].bias(node) for node in nodes]


def _dims_of(node: Node) -> int:
    """The number of dimensions of a node's first result."""
    return len(node._input_metadata[0].shape)


def _of_batch_norms(biases: Mapping[Node, Tensor]) -> dict[Node, Bias]:
    """The biases of batch norms with these parameters, computed together because each is small."""
    alike: dict[object, list[tuple[Node, float, tuple[Tensor, ...]]]] = {}
    for node, bias in biases.items():
        eps = getattr(node, _EPS[type(node).__name__])
        mean, weight = node._saved_running_mean, node._saved_weight
        key = eps, mean.device, mean.dtype, weight.dtype, bias.dtype
        own = (mean, node._saved_running_var, weight, bias)
        alike.setdefault(key, []).append((node, eps, own))
    found = {}
    for group in alike.values():
        nodes, (eps, *_), tensors = zip(*group, strict=True)
        means, variances, weights, offsets = map(torch.cat, zip(*tensors, strict=True))
        _, shift = scale_and_shift(means, variances, weights, offsets, eps)
        shifts = torch.split(shift, [len(mean) for mean, *_ in tensors])
        for node, each in zip(nodes, shifts, strict=True):
            found[node] = channel_bias(each, _dims_of(node) - 2)
    return found


def _of_batch_norm(node: Node) -> Bias | None:
    """The bias of a batch norm without a weight and a bias."""
    if node._saved_weight is not None or parameter_of(node, 2) is not None:
        return None
    mean, variance = node._saved_running_mean, node._saved_running_var
    _, shift = scale_and_shift(mean, variance, None, None, getattr(node, _EPS[type(node).__name__]))
    return channel_bias(shift, _dims_of(node) - 2)


def _of_convolution(node: Node) -> Bias | None:
    bias = parameter_of(node, 2)
    return None if bias is None else channel_bias(bias, _dims_of(node) - 2)


def _of_attention(node: Node) -> Bias:
    depends = [not is_constant(source) for source, _ in node.next_functions[:3]]
    return bias_of_attention(
        node._saved_output, node._saved_query, node._saved_key, node._saved_value, depends,
        node, mask_of(node), node._saved_is_causal, node._saved_scale,
    )  # fmt: skip


def mask_of(node: Node) -> Tensor | None:
    """The mask of a node of attention; None if it has none."""
    mask: Tensor | None = getattr(node, MASKS[type(node).__name__])
    return mask


def _of_group_norm(node: Node) -> Bias | None:
    """As :func:`bias_of_layer_norm`, as a scale and a shift of each channel of a sample."""
    z, mean, deviation = node._saved_input, node._saved_result1, node._saved_result2
    gamma, beta = parameter_of(node, 1), parameter_of(node, 2)
    if deviation.dtype in HALF or gamma is None or beta is None:
        return None
    variance = variance_of(z.reshape(*mean.shape, -1), (2,)).squeeze(2)
    copies = z.shape[1] // mean.shape[1]
    scale, mean = (each.repeat_interleave(copies, 1) for each in (variance * deviation**3, mean))
    scale = scale * gamma
    shift = beta - mean * scale
    scale, shift = (each.reshape(*each.shape, *[1] * (z.dim() - 2)) for each in (scale, shift))
    return Bias(lambda z, scale, shift: (z * scale).add_(shift), z, scale, shift)


def _dim_of(node: Node) -> int:
    """The dimension of an operation; torch shows -1 as 2 ** 64 - 1."""
    return ctypes.c_int64(node._saved_dim).value % _dims_of(node)


def _of_softmax(node: Node) -> Bias:
    """As :func:`activations.softmax`, with ``log(y)`` as the logits.

    The bias does not change if a constant is added to all logits.
    """
    dim = _dim_of(node)

    def compute(y: Tensor) -> Tensor:
        y = activations.without_subnormal(y)
        return activations.of_softmax(y, torch.xlogy(y, y), dim)

    return Bias(compute, node._saved_result, uncut=(dim,), scale=-1)


def _of_quotient(node: Node) -> Bias:
    numerator, _ = node.next_functions[0]
    scale = 2 if is_constant(numerator) else 1
    return Bias(torch.div, node._saved_self, node._saved_other, scale=scale)


def _of_sum(node: Node, sign: int = 1) -> Bias | None:
    for position, factor in ((0, 1), (1, sign * node._saved_alpha)):
        parameter = parameter_of(node, position)
        if parameter is not None:
            return summand(parameter, factor)
    return None


def _of_concatenation(node: Node) -> Bias | None:
    """The parameters among the tensors, and zeros instead of the others."""
    (result,) = node._input_metadata
    rank = len(result.shape)
    dim = _dim_of(node)
    parts = []
    for position, (source, number) in enumerate(node.next_functions):
        if not is_constant(source):
            zero = torch.zeros((), dtype=result.dtype, device=result.device)
            parts.append(zero.expand(source._input_metadata[number].shape))
            continue
        parameter = parameter_of(node, position)
        if parameter is None or parameter.dim() < rank - dim:
            return None
        size = parameter.shape[dim - rank]
        parts.append(parameter.expand(*result.shape[:dim], size, *result.shape[dim + 1 :]))
    value = torch.cat(parts, dim)
    return Bias(identity, value) if list(value.shape) == result.shape else None


class NodeWithBias(NamedTuple):
    """A kind of node whose operation has a bias.

    Args:
        operations: The names of the operations, separated by spaces.
        bias: Reads the bias from a node; None if it cannot be read.
        has_bias: Whether the operation of a node has a bias.
    """

    operations: str
    bias: Callable[[Node], Bias | None]
    has_bias: Callable[[Node], object] = lambda node: True


def _from_saved(
    operations: str,
    bias: Callable[..., Bias | None],
    *names: str,
    has_bias: Callable[[Node], object] = lambda node: True,
) -> NodeWithBias:
    """A kind of node that saves all that its bias is computed from, under these names.

    A name that the node does not save stands for None.
    """
    saved = [f"_saved_{name}" for name in names]

    def read(node: Node) -> Bias | None:
        return bias(*(getattr(node, name, None) for name in saved))

    return NodeWithBias(operations, read, has_bias)


def _elementwise(operation: str, function: Callable[..., Tensor], *options: str) -> NodeWithBias:
    """A function of one tensor. Its node saves the tensor and the options."""

    def bias(z: Tensor, *values: Any) -> Bias:
        known = dict(zip(options, values, strict=True))
        return activations.bias_by_derivative(partial(function, **known), z)

    return _from_saved(operation, bias, "self", *options)


def _clamp(operations: str) -> NodeWithBias:
    """A kind of node that saves the limits, and that has no bias if they are 0, as in a ReLU."""
    return _from_saved(
        operations,
        bias_of_clamp,
        *("self", "min", "max"),
        has_bias=lambda node: getattr(node, "_saved_min", 0) or getattr(node, "_saved_max", 0),
    )


_EPS = {"CudnnBatchNormBackward0": "_saved_epsilon", "NativeBatchNormBackward0": "_saved_eps"}
"""The attributes that hold the constant of a batch norm, by kind of node."""
MASKS = {
    "ScaledDotProductEfficientAttentionBackward0": "_saved_attn_bias",  # on a GPU, in float32
    "ScaledDotProductFlashAttentionForCpuBackward0": "_saved_attn_mask",
}
"""The attributes that hold the masks of attention, by kind of node."""

NODES_WITH_BIAS = {
    "AddBackward0": NodeWithBias("add linear", _of_sum, has_constant),
    "AtanBackward0": _elementwise("atan", torch.atan),
    "CatBackward0": NodeWithBias("cat", _of_concatenation, has_constant),
    "CeluBackward0": _elementwise("celu", F.celu, "alpha"),
    "ClampBackward1": _clamp("clamp clip"),
    "ClampMaxBackward0": _clamp("clamp_max"),
    "ClampMinBackward0": _clamp("clamp_min"),
    "ConstantPadNdBackward0": NodeWithBias("pad", lambda node: None),  # of a number
    "ConvolutionBackward0": NodeWithBias(
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
        _of_convolution,
        lambda node: node._saved_bias_sym_sizes_opt != (0,),
    ),
    "CosBackward0": _elementwise("cos", torch.cos),
    "DivBackward0": NodeWithBias(
        "div normalize", _of_quotient, lambda node: not is_constant(node.next_functions[1][0])
    ),
    "EluBackward0": _from_saved(
        "elu", activations.bias_of_elu, "self", "alpha", "scale", "input_scale"
    ),
    "ErfBackward0": _elementwise("erf", torch.erf),
    "ExpBackward0": _from_saved("exp", partial(Bias, activations.exp), "result"),
    "GeluBackward0": _from_saved("gelu", activations.bias_of_gelu, "self", "approximate"),
    "GluBackward0": NodeWithBias(
        "glu", lambda node: activations.bias_of_glu(node._saved_self, _dim_of(node))
    ),
    "HardsigmoidBackward0": _from_saved(
        "hardsigmoid", partial(Bias, activations.hardsigmoid), "self"
    ),
    "HardswishBackward0": _from_saved("hardswish", activations.bias_of_hardswish, "self"),
    "HardtanhBackward0": _from_saved(
        "hardtanh relu6",
        SaturationBias,
        "max_val",
        "self",
        has_bias=lambda node: node._saved_min_val == 0 < node._saved_max_val,
    ),
    "Log1PBackward0": _elementwise("log1p", torch.log1p),
    "LogBackward0": _elementwise("log", torch.log),
    "LogSigmoidBackward0": _elementwise("log_sigmoid", F.logsigmoid),
    "MishBackward0": _elementwise("mish", F.mish),
    "MulBackward0": _from_saved(
        "mul",
        partial(Bias, torch.mul, scale=-1),
        "self",
        "other",
        has_bias=lambda node: not has_constant(node),
    ),
    "NativeGroupNormBackward0": NodeWithBias("group_norm", _of_group_norm),
    "NativeLayerNormBackward0": _from_saved(
        "layer_norm", bias_of_layer_norm, "input", "result1", "result2", "weight", "bias"
    ),
    "PowBackward0": _from_saved(
        "pow square",
        lambda z, p: Bias(partial(torch.pow, exponent=p), z, scale=1 - p),
        "self",
        "exponent",
    ),
    "ReciprocalBackward0": _from_saved("reciprocal", partial(of_degree, -1), "result"),
    "RsqrtBackward0": _from_saved("rsqrt", partial(of_degree, -0.5), "result"),
    "RsubBackward1": NodeWithBias("rsub", lambda node: None),  # a number minus a tensor
    # The rounding errors of the logit are multiplied by y (1 - y), their inverse.
    "SigmoidBackward0": _from_saved(
        "sigmoid", partial(Bias, lambda y: activations.sigmoid(y, y.logit())), "result"
    ),
    "SiluBackward0": _from_saved("silu", activations.bias_of_silu, "self"),
    "SinBackward0": _elementwise("sin", torch.sin),
    "SoftmaxBackward0": NodeWithBias("softmax", _of_softmax),
    "SoftplusBackward0": _elementwise("softplus", F.softplus, "beta", "threshold"),
    "SqrtBackward0": _from_saved("sqrt", partial(of_degree, 0.5), "result"),
    "SubBackward0": NodeWithBias("sub", partial(_of_sum, sign=-1), has_constant),
    "TanhBackward0": _from_saved(
        "tanh", partial(Bias, lambda y: activations.tanh(y, y.atanh())), "result"
    ),
    **dict.fromkeys(
        PRODUCTS_AND_VIEWS,
        NodeWithBias("linear bmm matmul einsum", bias_of_product, is_product),
    ),
    **dict.fromkeys(_EPS, NodeWithBias("batch_norm", _of_batch_norm)),
    **dict.fromkeys(MASKS, NodeWithBias("scaled_dot_product_attention", _of_attention)),
}
"""The kinds of nodes whose operations have biases."""
