"""Finds the terms of a recorded forward pass in the graph of a later one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.masks import kept_by_mask
from captum_tgrad.decomposition.precision import HALF
from captum_tgrad.decomposition.replay.graph import Graph, has_dense_weights
from captum_tgrad.decomposition.replay.node_biases import biases_of, operations_of
from captum_tgrad.decomposition.replay.node_constants import Node, has_constant
from captum_tgrad.decomposition.replay.products import bias_at_factor, product_of
from captum_tgrad.decomposition.tracing.recorder import Recorder


class RecordedTerms(NamedTuple):
    """The terms of a recorded forward pass, and what else it has to have in common with others.

    Args:
        terms: The terms with the numbers of their nodes, in forward order, without their biases.
        without_terms: The numbers of nodes that had no term because their bias was zero.
        needs_dense_weights: Whether the places are only right if the weights of linear layers have
            no zeros.
        dtypes: The dtypes that operations computed in.
    """

    terms: list[tuple[int, PendingTerm]]
    without_terms: list[int]
    needs_dense_weights: bool
    dtypes: set[torch.dtype]


def with_biases(
    recorded: RecordedTerms, graph: Graph, added: Mapping[Node, Bias | None] | None
) -> list[tuple[Node, PendingTerm]] | None:
    """The recorded terms with their nodes and biases; None if there are others.

    Args:
        recorded: The terms of a recorded forward pass.
        graph: The graph of a later one, with the same description.
        added: The biases of the sums and paddings whose constants the graph does not show; None if
            one is unknown.
    """
    if added is None or (recorded.needs_dense_weights and not has_dense_weights(graph)):
        return None  # a matrix with zeros may only move elements
    nodes = [graph.nodes[number] for number, _ in recorded.terms]
    with torch.no_grad():
        biases = {**dict(zip(nodes, biases_of(nodes), strict=True)), **added}
        if not all(_has_zero_bias(graph.nodes[number]) for number in recorded.without_terms):
            return None  # for example, a clamp is saturated
        for node, (_, term) in zip(nodes, recorded.terms, strict=True):
            if term.factor is not None:
                biases[node] = bias_at_factor(node, term.factor, term.places)
    found = [bias for bias in map(biases.pop, nodes) if bias is not None]
    if len(found) < len(nodes) or any(biases.values()):
        return None  # for example, a number that was 0 has changed
    terms = zip(nodes, recorded.terms, found, strict=True)
    return [(node, term.with_bias(bias)) for node, (_, term), bias in terms]


def recorded_terms(graph: Graph, recorder: Recorder) -> RecordedTerms | None:
    """The terms of a recorded forward pass; None if not every bias of the graph is one of them."""
    recorded = recorder.terms_by_node()
    if recorded is None:
        return None
    found, zero, missing, products = [], [], [], set()
    for number, node in enumerate(graph.nodes):
        if _has_masked_factor(node):
            return None
        term, operations = recorded.get(node._sequence_nr()), operations_of(node)
        is_real = not node._input_metadata[0].dtype.is_complex  # others have terms in pairs
        if term is not None and term.operation in operations and is_real:
            found.append((node._sequence_nr(), number, term.with_bias(None)))
            products.add(product_of(node))
        elif term is not None:
            return None
        elif operations and (product := product_of(node)) is not None:
            missing.append(product)
        elif operations:
            if not _has_zero_bias(node):
                return None
            zero.append(number)
    # A linear layer over sequences has its term at the view of its product, or at the product.
    if not products.issuperset(missing):
        return None
    terms = [(number, term) for _, number, term in sorted(found, key=lambda each: each[0])]
    return RecordedTerms(terms, zero, recorder.needs_dense_weights, recorder.dtypes)


def _has_masked_factor(node: Node) -> bool:
    """Whether it is a product of activations of which one has masked elements.

    They stay masked only if they are zero, which a later graph does not show.
    """
    if type(node).__name__ != "MulBackward0" or has_constant(node):
        return False
    masks = map(kept_by_mask, (node._saved_self, node._saved_other))
    return any(mask is not None and not bool(mask.all()) for mask in masks)


def _has_zero_bias(node: Node) -> bool:
    """Whether the bias of a node without a term is zero, as that of a sum with the number 0."""
    (bias,) = biases_of([node])
    return adds_constant(node) if bias is None else not bool(bias.value().any())


def is_checked_by_sum(node: Node, recorded: RecordedTerms, graph: Graph) -> bool:
    """Whether it is a padding with zeros in full precision: another value leaves a residual."""
    is_padding = type(node).__name__ == "ConstantPadNdBackward0"
    if not is_padding or not recorded.dtypes.isdisjoint(HALF):
        return False
    return any(graph.nodes[number] is node for number in recorded.without_terms)


def adds_constant(node: Node) -> bool:
    """Whether a node adds a constant that the graph does not show: a buffer or a number."""
    may_add = type(node).__name__ in _MAY_ADD_CONSTANTS
    return may_add and bool(operations_of(node)) and biases_of([node]) == [None]


_MAY_ADD_CONSTANTS = ("AddBackward0", "ConstantPadNdBackward0", "RsubBackward1", "SubBackward0")
