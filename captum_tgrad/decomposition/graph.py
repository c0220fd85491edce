"""Reads from autograd's graph which operations a forward pass ran, and their biases."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, ChannelBias, SaturationBias
from captum_tgrad.decomposition.operations.normalizations import scale_and_shift
from captum_tgrad.decomposition.places.contraction import has_zeros

Node = Any
"""A node of autograd's graph."""


class Graph(NamedTuple):
    """A graph whose nodes are all of known kinds.

    Args:
        nodes: The nodes, in the order in which they are reached from the output.
        description: All that the operations depend on, except the values of tensors: the kinds of
            the nodes, their edges and attributes, the shapes and dtypes of their results, and the
            addresses of the weights.
    """

    nodes: list[Node]
    description: list[object]


def graph_of(output: object) -> Graph | None:
    """The graph of an output; None if the nodes do not show all that its operations depend on."""
    if not isinstance(output, Tensor) or output.grad_fn is None:
        return None
    nodes: list[Node] = [output.grad_fn]
    numbers = {output.grad_fn: 0}
    description: list[object] = []
    for node in nodes:
        kind: Any = type(node)
        if kind.__name__ not in _KINDS:
            return None
        edges: list[int | None] = []
        for source, _ in node.next_functions:
            if _is_leaf(source):
                edges.append(None)
                continue
            if source not in numbers:
                numbers[source] = len(nodes)
                nodes.append(source)
            edges.append(numbers[source])
        if None in edges and kind.__name__ == "AddBackward0":
            return None  # it does not show a constant summand
        result = node._input_metadata[0]
        description += [kind, edges, result.shape, result.dtype]
        attributes, weights = _attributes(kind)
        description += [getattr(node, name) for name in attributes]
        description += [_address(getattr(node, name)) for name in weights]
    return Graph(nodes, description)


def _is_leaf(source: Node) -> bool:
    """Whether a source is the input, a parameter, its transpose, or requires no gradient."""
    kind = type(source).__name__
    if kind == "TBackward0":  # the transposed weight of a linear layer
        ((source, _),) = source.next_functions
        kind = type(source).__name__
    return kind in ("AccumulateGrad", "NoneType")


@cache
def _attributes(kind: Any) -> tuple[list[str], list[str]]:
    """The attributes of a kind of node that are not tensors, and those that are weights.

    Most sizes are left out: some are saved only for the gradients of parameters.
    """
    names = [name for name in dir(kind) if name.startswith("_saved_")]
    plain = [name for name in names if not hasattr(kind, f"_raw{name}")]
    weights = [name for name in names if name in _WEIGHTS]
    return [name for name in plain if "_sym_" not in name or name == _BIAS_SIZES], weights


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def has_dense_weights(graph: Graph) -> bool:
    """Whether the weights of all linear layers have no zeros."""
    weights = [node._saved_mat2 for node in graph.nodes if hasattr(node, "_saved_mat2")]
    return not any(map(has_zeros, weights))


def operations_of(node: Node) -> tuple[str, ...]:
    """The names of the operations to which a node with a bias may belong; empty without one."""
    kind = type(node).__name__
    if kind not in _BIASES or getattr(node, _BIAS_SIZES, None) == (0,):
        return ()
    if kind == "HardtanhBackward0" and not node._saved_min_val == 0 < node._saved_max_val:
        return ()
    return _BIASES[kind][0]


def bias_of(node: Node) -> Bias | None:
    """The bias of a node's operation; None if it has a parameter that is not in the graph."""
    return _BIASES[type(node).__name__][1](node)


def _of_batch_norm(node: Node, eps: str = "_saved_eps") -> Bias | None:
    weight, bias = node._saved_weight, _parameter(node, 2)
    if (weight is None) != (bias is None):
        return None
    mean, variance = node._saved_running_mean, node._saved_running_var
    return ChannelBias(scale_and_shift(mean, variance, weight, bias, getattr(node, eps))[1], 1)


def _of_convolution(node: Node) -> Bias | None:
    bias = _parameter(node, 2)
    return None if bias is None else ChannelBias(bias, 1)


def _of_linear(node: Node) -> Bias | None:
    bias = _parameter(node, 0)
    return None if bias is None or bias.dim() != 1 else ChannelBias(bias, 1)


def _of_clamp(node: Node) -> Bias:
    return SaturationBias(node._saved_max_val, node._saved_self)


def _parameter(node: Node, position: int) -> Tensor | None:
    leaf, _ = node.next_functions[position]
    parameter: Tensor | None = getattr(leaf, "variable", None)
    return None if parameter is None else parameter.detach()


_BIASES: dict[str, tuple[tuple[str, ...], Callable[[Node], Bias | None]]] = {
    "AddmmBackward0": (("linear",), _of_linear),
    "CudnnBatchNormBackward0": (("batch_norm",), partial(_of_batch_norm, eps="_saved_epsilon")),
    "ConvolutionBackward0": (("conv1d", "conv2d", "conv3d"), _of_convolution),
    "HardtanhBackward0": (("hardtanh", "relu6"), _of_clamp),
    "NativeBatchNormBackward0": (("batch_norm",), _of_batch_norm),
}
"""The operations with a bias that have a kind of node, and how it is read from the node."""

_KINDS = {
    *_BIASES,
    "AdaptiveAvgPool2DBackward0",
    "AddBackward0",
    "AsStridedBackward1",  # of a global average pooling in channels_last
    "AvgPool2DBackward0",
    "CatBackward0",
    "CloneBackward0",
    "LeakyReluBackward0",
    "MaxPool2DWithIndicesBackward0",
    "MeanBackward1",
    "MmBackward0",
    "ReluBackward0",
    "UnsafeViewBackward0",
    "ViewBackward0",
}
"""The known kinds of nodes."""

_BIAS_SIZES = "_saved_bias_sym_sizes_opt"
_WEIGHTS = ("_saved_mat2", "_saved_running_mean", "_saved_weight")
"""Attributes that hold constants. Their addresses tell modules of the same shape apart."""
