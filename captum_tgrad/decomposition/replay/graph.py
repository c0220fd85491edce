"""Reads from autograd's graph which operations a forward pass ran."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.rules.contraction import has_zeros
from captum_tgrad.decomposition.precision import HALF
from captum_tgrad.decomposition.replay.node_biases import MASKS, NODES_WITH_BIAS, mask_of
from captum_tgrad.decomposition.replay.node_constants import Node, is_constant


class Graph(NamedTuple):
    """A graph whose nodes are all of known kinds.

    Args:
        nodes: The nodes, in the order in which they are reached from the output.
        description: All that the operations depend on, except the values of tensors: the kinds of
            the nodes, their edges and attributes, the shapes and dtypes of their results, the
            addresses of the weights, and the zeros of masks.
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
        of_class: Any = type(node)
        kind = _kinds.get(of_class) or _kind(of_class)
        zeros = b"" if kind is None or kind.zeros is None else kind.zeros(node)
        if kind is None or zeros is None:
            return None
        edges: list[int | None] = []
        for source, result in node.next_functions:
            number = numbers.get(source)
            if number is None:
                if is_constant(source):
                    edges.append(None)
                    continue
                number = numbers[source] = len(nodes)
                nodes.append(source)
            edges += (number, result)
        first = node._input_metadata[0]
        weights = [_address(getattr(node, name)) for name in kind.weights]
        options = kind.options(node)
        description += (of_class, edges, first.shape, first.dtype, zeros, options, weights)
    return Graph(nodes, description)


def _address(weight: Tensor | None) -> int:
    """The address of a weight; 0 in half precision, in which autocast makes a copy in each call."""
    return 0 if weight is None or weight.dtype in HALF else weight.data_ptr()


class _Kind(NamedTuple):
    """What describes a node of a known kind.

    Args:
        options: Reads the attributes that are not tensors.
        weights: The names of the attributes that hold weights.
        zeros: Returns what identifies the elements that the operation leaves out or replaces by
            constants: empty if it does so with none, or if the rest of the description shows them.
            None if they are unknown, or follow from the values of activations. None if no such
            operation does so.
    """

    options: Callable[[Node], object]
    weights: list[str]
    zeros: Callable[[Node], bytes | None] | None


_kinds: dict[Any, _Kind] = {}


def _kind(of_class: Any) -> _Kind | None:
    """What describes the nodes of this class; None if they are of no known kind.

    Most sizes are left out: some are saved only for the gradients of parameters.
    """
    name = of_class.__name__
    if name not in _KINDS:
        return None
    saved = [each for each in dir(of_class) if each.startswith("_saved_")]
    plain = [each for each in saved if not hasattr(of_class, f"_raw{each}")]
    plain = [each for each in plain if "_sym_" not in each or each == _BIAS_SIZES]
    weights = [] if name == _OF_ACTIVATIONS else [each for each in saved if each in _WEIGHTS]
    # attrgetter needs a name: the class, if there are no options.
    kind = _Kind(attrgetter(*plain or ["__class__"]), weights, _ZEROS.get(name))
    return _kinds.setdefault(of_class, kind)


def _zeros_of_softmax(node: Node) -> bytes | None:
    return b"" if bool(node._saved_result.all()) else None


def _zeros_of_factors(node: Node) -> bytes | None:
    factors = (node._saved_self, node._saved_other)
    edges = zip(node.next_functions, factors, strict=True)
    constants = [factor for (source, _), factor in edges if is_constant(source)]
    if any(factor is None for factor in constants):
        return None
    return b"".join(map(_digest_of_zeros, constants))


def _zeros_of_concatenation(node: Node) -> bytes | None:
    """None if constants are before and after others: a recorded graph does not show their sizes."""
    constants = [is_constant(source) for source, _ in node.next_functions]
    groups = [are_constant for are_constant, _ in groupby(constants)]
    return None if groups.count(True) > 1 else b""


def _zeros_of_mask(node: Node) -> bytes:
    mask = mask_of(node)
    if mask is None:
        return b""
    return _digest_of_zeros(mask if mask.dtype == torch.bool else mask.exp())


def _digest_of_zeros(factor: Tensor) -> bytes:
    """A digest of where a factor is zero; empty if it is zero nowhere."""
    shown = factor != 0
    if bool(shown.all()):
        return b""
    # A mask of rows may have the same zeros as one of columns.
    digest = blake2b(repr(shown.shape).encode())
    digest.update(shown.cpu().numpy().tobytes())
    return digest.digest()


def has_dense_weights(graph: Graph) -> bool:
    """Whether the weights of all linear layers have no zeros."""
    products = (node for node in graph.nodes if type(node).__name__ != _OF_ACTIVATIONS)
    return not any(has_zeros(node._saved_mat2) for node in products if hasattr(node, "_saved_mat2"))


_KINDS = {
    *NODES_WITH_BIAS,
    "AbsBackward0",
    "AdaptiveAvgPool2DBackward0",
    "AdaptiveAvgPool3DBackward0",
    "AdaptiveMaxPool2DBackward0",
    "AdaptiveMaxPool3DBackward0",
    "AliasBackward0",
    "AmaxBackward0",
    "AsStridedBackward1",  # of a global average pooling in channels_last
    "AvgPool2DBackward0",
    "AvgPool3DBackward0",
    "CloneBackward0",
    "ExpandBackward0",
    "FlipBackward0",
    "LeakyReluBackward0",
    "LeakyReluBackward1",
    "LinalgVectorNormBackward0",
    "MaxBackward0",
    "MaxPool2DWithIndicesBackward0",
    "MaxPool3DWithIndicesBackward0",
    "MeanBackward1",
    "MinBackward0",
    "MmBackward0",
    "NegBackward0",
    "PermuteBackward0",
    "PixelShuffleBackward0",
    "PixelUnshuffleBackward0",
    "PreluKernelBackward0",
    "ReflectionPad1DBackward0",
    "ReflectionPad2DBackward0",
    "ReflectionPad3DBackward0",
    "ReluBackward0",
    "RepeatBackward0",
    "ReplicationPad1DBackward0",
    "ReplicationPad2DBackward0",
    "ReplicationPad3DBackward0",
    "ReshapeAliasBackward0",
    "RollBackward0",
    "SelectBackward0",
    "SliceBackward0",
    "SplitBackward0",
    "SplitWithSizesBackward0",
    "SqueezeBackward1",
    "SqueezeBackward2",
    "StackBackward0",
    "SumBackward1",
    "TBackward0",
    "ToCopyBackward0",
    "TransposeBackward0",
    "UnbindBackward0",
    "UnfoldBackward0",
    "UnsqueezeBackward0",
    "UpsampleBicubic2DBackward0",
    "UpsampleBilinear2DBackward0",
    "UpsampleLinear1DBackward0",
    "UpsampleNearest1DBackward0",
    "UpsampleNearest2DBackward0",
    "UpsampleNearest3DBackward0",
    "UpsampleNearestExact1DBackward0",
    "UpsampleNearestExact2DBackward0",
    "UpsampleNearestExact3DBackward0",
    "UpsampleTrilinear3DBackward0",
}
"""The known kinds of nodes."""

_ZEROS: dict[str, Callable[[Node], bytes | None]] = {
    "CatBackward0": _zeros_of_concatenation,
    "MulBackward0": _zeros_of_factors,
    "SoftmaxBackward0": _zeros_of_softmax,
    **dict.fromkeys(MASKS, _zeros_of_mask),
}
"""The kinds of nodes whose operations may leave out elements, or join them with constants."""

_OF_ACTIVATIONS = "BmmBackward0"
"""A product of matrices of which neither needs to be a weight."""

_BIAS_SIZES = "_saved_bias_sym_sizes_opt"
_WEIGHTS = ("_saved_mat2", "_saved_running_mean", "_saved_weight")
"""Attributes that hold constants. Their addresses tell modules of the same shape apart."""
