"""Reads the biases of products of matrices from autograd's graph.

With more than two dimensions, the result of such an operation is a view of the product.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import Bias, channel_bias
from captum_tgrad.decomposition.operations.mixing import bias_of_sums
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.replay.node_constants import Node, has_constant, parameter_of

_PRODUCTS = ("AddmmBackward0", "BmmBackward0")
_VIEWS = ("PermuteBackward0", "UnsafeViewBackward0", "ViewBackward0")

PRODUCTS_AND_VIEWS = (*_PRODUCTS, *_VIEWS)
"""The kinds of nodes at the results of products."""


def product_of(node: Node) -> Node | None:
    """The node of the product of which the result of a node is a view; None if it is of none."""
    while type(node).__name__ in _VIEWS:
        node = node.next_functions[0][0]
    return node if type(node).__name__ in _PRODUCTS else None


def is_product(node: Node) -> bool:
    """Whether a node is a linear layer or a product of two matrices that depend on the input."""
    product = product_of(node)
    kind = type(product).__name__
    return kind == "AddmmBackward0" or (kind == "BmmBackward0" and not has_constant(product))


def bias_of_product(node: Node) -> Bias | None:
    """The bias of a product at the elements of its result."""
    product: Any = product_of(node)
    if type(product).__name__ == "AddmmBackward0":
        bias = parameter_of(product, 0)
        return None if bias is None or bias.dim() != 1 else channel_bias(bias, 0)

    def compute(first: Tensor, second: Tensor) -> Tensor:
        return _viewed(node, torch.bmm(first, second))

    whole = tuple(range(len(node._input_metadata[0].shape)))
    return Bias(compute, product._saved_self, product._saved_mat2, scale=-1, uncut=whole)


def bias_at_factor(node: Node, factor: int, places: Places) -> Bias | None:
    """The bias of a product whose term is at the elements of one factor; None if it is unknown."""
    product: Any = product_of(node)
    tensors = (product._saved_self, product._saved_mat2)
    if 2 * tensors[factor].numel() != math.prod(places.shape) or _is_permuted(node):
        return None
    (result,) = product._input_metadata
    return bias_of_sums("bxy,byz->bxz", factor, tensors, result.shape, -1, places)


def _is_permuted(node: Node) -> bool:
    """Whether the dimensions of a product were permuted."""
    kind = type(node).__name__
    return kind in _VIEWS and (
        kind == "PermuteBackward0" or _is_permuted(node.next_functions[0][0])
    )


def _viewed(node: Node, product: Tensor) -> Tensor:
    """The view of a product that is the result of a node."""
    if type(node).__name__ not in _VIEWS:
        return product
    before = _viewed(node.next_functions[0][0], product)
    if type(node).__name__ == "PermuteBackward0":
        return before.permute(node._saved_dims)
    return before.reshape(node._input_metadata[0].shape)
