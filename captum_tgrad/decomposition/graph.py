"""Reads from autograd's graph which operations a forward pass ran."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from captum_tgrad.decomposition.node_biases import MASKS, NODES_WITH_BIAS, Node, is_constant
from captum_tgrad.decomposition.places.contraction import has_zeros


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
        if kind.__name__ not in _KINDS or _may_mask(node):
            return None
        edges: list[int | None] = []
        for source, result in node.next_functions:
            if is_constant(source):
                edges.append(None)
                continue
            if source not in numbers:
                numbers[source] = len(nodes)
                nodes.append(source)
            edges += (numbers[source], result)
        first = node._input_metadata[0]
        description += [kind, edges, first.shape, first.dtype]
        attributes, weights = _attributes(kind)
        description += [getattr(node, name) for name in attributes]
        tensors = [getattr(node, name) for name in weights]
        description += [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
    return Graph(nodes, description)


@cache
def _attributes(kind: Any) -> tuple[list[str], list[str]]:
    """The attributes of a kind of node that are not tensors, and those that are weights.

    Most sizes are left out: some are saved only for the gradients of parameters.
    """
    names = [name for name in dir(kind) if name.startswith("_saved_")]
    plain = [name for name in names if not hasattr(kind, f"_raw{name}")]
    weights = [name for name in names if name in _WEIGHTS]
    return [name for name in plain if "_sym_" not in name or name == _BIAS_SIZES], weights


def _may_mask(node: Node) -> bool:
    """Whether an operation may leave out elements, by the values of a constant."""
    kind = type(node).__name__
    if kind == "MulBackward0":
        factors = (node._saved_self, node._saved_other)
        edges = zip(node.next_functions, factors, strict=True)
        constants = [factor for (source, _), factor in edges if is_constant(source)]
        return any(
            each is None or not each.is_floating_point() or has_zeros(each) for each in constants
        )
    return kind in MASKS and getattr(node, MASKS[kind]) is not None


def has_dense_weights(graph: Graph) -> bool:
    """Whether the weights of all linear layers have no zeros."""
    weights = [node._saved_mat2 for node in graph.nodes if hasattr(node, "_saved_mat2")]
    return not any(map(has_zeros, weights))


_KINDS = {
    *NODES_WITH_BIAS,
    "AdaptiveAvgPool2DBackward0",
    "AsStridedBackward1",  # of a global average pooling in channels_last
    "AvgPool2DBackward0",
    "CloneBackward0",
    "LeakyReluBackward0",
    "MaxPool2DWithIndicesBackward0",
    "MeanBackward1",
    "MmBackward0",
    "PermuteBackward0",
    "ReluBackward0",
    "ReshapeAliasBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward1",
    "StackBackward0",
    "SumBackward1",
    "TransposeBackward0",
    "UnbindBackward0",
    "UnsafeViewBackward0",
    "UnsqueezeBackward0",
    "UpsampleBicubic2DBackward0",
    "UpsampleBilinear2DBackward0",
    "UpsampleNearest2DBackward0",
}
"""The known kinds of nodes."""

_BIAS_SIZES = "_saved_bias_sym_sizes_opt"
_WEIGHTS = ("_saved_mat2", "_saved_running_mean", "_saved_weight")
"""Attributes that hold constants. Their addresses tell modules of the same shape apart."""
