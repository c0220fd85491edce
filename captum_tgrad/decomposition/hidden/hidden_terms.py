"""Terms of hidden operations: ``<df/dy, y> - <df/dz, z>``, summed in the backward pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.copy_on_write import CopyOnWrite
from captum_tgrad.decomposition.hidden.visible_results import NodeOutput
from captum_tgrad.decomposition.maps.reduction import reduction
from captum_tgrad.decomposition.maps.samples import samples_lost
from captum_tgrad.decomposition.maps.summing import InputSums, Summing, TermSums
from captum_tgrad.decomposition.places.places import (
    Places,
    has_places,
    input_places,
    lost_places,
    samples_only,
)
from captum_tgrad.decomposition.precision import in_full_precision, without_nan

Edge = tuple[Any, int, NodeOutput]
"""A node of a hidden operation, the index of an argument, and the visible result passed there."""


@dataclass(frozen=True, eq=False)
class Source:
    """A tensor that a hidden operation reads.

    Args:
        kept: The tensor, with the values that it has now.
        places: The places of its elements.
    """

    kept: CopyOnWrite
    places: Places


@dataclass(frozen=True, eq=False)
class HiddenResult(Source):
    """A tensor that a hidden operation returned. Other hidden operations may read it.

    Args:
        output: Its node, and which output of the node it is.
        is_elementwise: Whether its elements have the places of those of all its sources.
        path: The path of the module that ran.
        order: The number of terms before it.
    """

    output: NodeOutput
    is_elementwise: bool
    path: str
    order: int


@dataclass(eq=False)
class HiddenTerm:
    """The term of a group of hidden operations that share nodes of autograd's graph.

    Args:
        results: The tensors that they return.
        samples: The batch size.
        sources: The tensors that they read.
        total: The sum so far: one value per element if ``is_elementwise``, else one per sample.
    """

    results: list[HiddenResult]
    samples: int
    sources: dict[NodeOutput, Source] = field(default_factory=dict)
    total: Tensor | None = None

    @property
    def is_elementwise(self) -> bool:
        """Whether the elements of all outputs and sources correspond."""
        return all(result.is_elementwise for result in self.results)

    @property
    def places(self) -> Places:
        """The places of its elements; lost if it is one number for each sample."""
        result = self.results[-1]
        if self.is_elementwise or not any(
            has_places(each.places) for each in self.sources.values()
        ):
            return result.places
        return lost_in_hidden(result.places.shape, samples_only(result.places), result.path)

    @property
    def inputs(self) -> frozenset[int]:
        """The numbers of the network's inputs on which the term depends."""
        tensors = (*self.sources.values(), *self.results)
        return frozenset().union(*(each.places.inputs for each in tensors))

    @torch.no_grad()
    def add(self, gradient: Tensor, tensor: Source, sign: int) -> None:
        """Adds ``sign * <gradient, tensor>``."""
        # As in the one rule, infinite elements are masked and count as constants.
        (value,) = tensor.kept.tensors
        value = torch.where(value.isfinite(), value, 0)
        if gradient.is_complex():
            gradient, value = (torch.view_as_real(t.resolve_conj()) for t in (gradient, value))
            product = (gradient * value).sum(-1) * sign
        else:
            product = in_full_precision(gradient) * in_full_precision(value) * sign
        product = without_nan(product)
        if not self.is_elementwise:
            to_cells = reduction(tensor.places, (), self.samples)
            product = product.sum_to_size(to_cells.summed_shape)
            if to_cells.has_unknown_samples and bool(product.any()):
                raise samples_lost(self.results[0].path, "hidden")
            product, _ = to_cells.into_cells(to_cells.collected(product)[None])
            product = product.reshape(-1)
        self.total = product if self.total is None else self.total + product

    def sums(self, summing: Summing) -> TermSums | None:
        """The sums of the term; None if no gradient has arrived."""
        if self.total is None:
            return None
        if self.is_elementwise:
            return summing.sums_of_elements(self.total, self.results[0].places)
        total = self.total.reshape(-1, 1).to(summing.device) / len(self.inputs)
        to_cells = reduction(input_places(total.shape, 0), (), summing.samples)
        sums = InputSums(total, total.abs(), to_cells)
        return TermSums(dict.fromkeys(self.inputs, sums), {})


def lost_in_hidden(shape: Sequence[int], samples: Places, path: str) -> Places:
    """The places of a result of a hidden operation, of which only the samples are known."""
    return lost_places(shape, samples, f"{path}:hidden" if path else "hidden")


def terms_and_handles(
    edges: Mapping[HiddenResult, Iterable[Edge]],
    sources: Mapping[NodeOutput, Source],
    samples: int,
) -> tuple[dict[HiddenResult, HiddenTerm], list[RemovableHandle]]:
    """Makes one term for all results that share nodes, and hooks that subtract its sources.

    Args:
        edges: For each hidden result, the edges from its hidden operations to visible results.
        sources: The visible results.
        samples: The batch size.

    Returns:
        The term of each hidden result, and the handles of the hooks.
    """
    by_node: dict[Any, HiddenTerm] = {}
    reads: dict[Any, dict[tuple[int, NodeOutput], None]] = {}
    for result, own in edges.items():
        term = HiddenTerm([result], samples)
        for node in {result.output[0], *(node for node, _, _ in own)}:
            other = by_node.setdefault(node, term)
            if other is not term:
                other.results += term.results
                for key in [key for key, value in by_node.items() if value is term]:
                    by_node[key] = other
                term = other
        for node, argument, visible in own:
            if visible in sources:
                reads.setdefault(node, {})[argument, visible] = None
    for node, arguments in reads.items():
        by_node[node].sources.update({visible: sources[visible] for _, visible in arguments})
    handles = [
        node.register_hook(partial(_subtract_sources, by_node[node], list(arguments)))
        for node, arguments in reads.items()
    ]
    terms = dict.fromkeys(by_node.values())
    return {result: term for term in terms for result in term.results}, handles


def _subtract_sources(
    term: HiddenTerm,
    arguments: list[tuple[int, NodeOutput]],
    gradients: tuple[Tensor | None, ...],
    _: Any,
) -> None:
    """A hook on a node: subtracts ``<df/dz, z>`` for its arguments ``z`` that are sources."""
    for argument, visible in arguments:
        gradient = gradients[argument]
        if gradient is not None:
            term.add(gradient, term.sources[visible], -1)
