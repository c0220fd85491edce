"""Finds hidden operations, which the trace cannot see, and makes a term of each.

Examples are a scripted module, a custom ``autograd.Function`` and an operation without a
directional derivative. From the inputs ``z`` and the outputs ``y`` of such an operation, its term
is ``<df/dy, y> - <df/dz, z>``, where ``df/dz`` is the gradient through this operation alone. Hooks
on the operation's nodes in autograd's graph receive that gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.copy_on_write import CopyOnWrite, Reader, Readers
from captum_tgrad.decomposition.hidden.hidden_places import is_constant, places_of_result
from captum_tgrad.decomposition.hidden.hidden_terms import (
    Edge,
    HiddenResult,
    HiddenTerm,
    Source,
    lost_in_hidden,
    terms_and_handles,
)
from captum_tgrad.decomposition.hidden.visible_results import NodeOutput, VisibleResults
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.places.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.places import Places, depending_on, make_places
from captum_tgrad.decomposition.tracing.running_modules import RunningModules


class HiddenOperations:
    """Finds the results of hidden operations, and collects their terms.

    A tensor that requires a gradient, and that no visible operation has returned, is the result of
    a hidden one. The visible results that a search of autograd's graph reaches from it are the
    sources that the hidden operation has read.

    Args:
        readers: Registers the values that are read in the backward pass.
        lifetime: The lifetime of the trace.
        modules: The modules that are running.
        terms: The terms so far.
        samples: The batch size.
        inputs: The numbers of the network's inputs, if there are several.

    Attributes:
        visible: The results of visible operations.
        replaced: The nodes of visible results whose terms are part of hidden ones.
    """

    def __init__(
        self,
        readers: Readers,
        lifetime: Lifetime,
        modules: RunningModules,
        terms: Sized,
        samples: int,
        inputs: frozenset[int],
    ) -> None:
        self._readers = readers
        self._lifetime = lifetime
        self._modules = modules
        self._visible_terms = terms
        self._samples = samples
        self._all_inputs = inputs
        self.visible = VisibleResults()
        self._sources: dict[NodeOutput, Source] = {}
        self._hidden_results: dict[NodeOutput, HiddenResult] = {}
        self._handles: list[Any] = []
        self._constant: set[Any] = set()
        self._terms: dict[HiddenResult, HiddenTerm] = {}
        self.replaced: set[Any] = set()

    @property
    def any_found(self) -> bool:
        """Whether the network has a hidden operation."""
        return bool(self._hidden_results)

    @property
    def nodes_read(self) -> set[int]:
        """The numbers of the nodes whose results hidden operations have read."""
        return {node._sequence_nr() for node, _ in self._sources}

    def search_output(self, path: str, output: Any) -> None:
        """Adds the results of hidden operations among the outputs of a module."""
        if origin_of(output) is not None:
            return
        with torch._C.DisableTorchFunction():
            for tensor in tensors_in(output):
                if tensor.requires_grad and origin_of(tensor) is None:
                    self.add_hidden_result(tensor, path=path)

    def add_hidden_result(
        self, tensor: Tensor, known_places: Places | None = None, path: str | None = None
    ) -> Origin | None:
        """Adds a result of a hidden operation and returns its origin; None for a constant.

        Args:
            tensor: A tensor that requires a gradient and has no origin.
            known_places: The places of its elements, if the trace has seen the call.
            path: The path of the module that ran; the running module's by default.
        """
        if tensor.grad_fn is None:
            return None
        path = self._modules.path if path is None else path
        output = (tensor.grad_fn, tensor.output_nr)
        self.visible.note_hidden(tensor.grad_fn)
        edges, nodes = self._search(output)
        reached = dict.fromkeys(seen for _, _, seen in edges)
        if not reached:
            return None
        sources = dict(filter(None, map(self.visible.read, reached)))
        inputs = frozenset[int]().union(*(each.inputs for each in sources.values()))
        for source, own in sources.items():
            self._add_source(source, own)
        if not sources:  # all sources were freed: the term is incomplete and leaves a residual
            places = lost_in_hidden(tensor.shape, make_places(tensor.shape), path)
            is_elementwise, inputs = False, self._all_inputs
        elif is_constant(tensor, sources):
            return None  # its backward returns None, so the result is a constant
        else:
            places, is_elementwise = places_of_result(tensor, sources, self._samples, path)
            if known_places and known_places.knows_samples and not is_elementwise:
                places = known_places
        if self._all_inputs:
            places = depending_on(places, inputs)
        result = HiddenResult(
            CopyOnWrite([tensor]), places, output, is_elementwise, path, len(self._visible_terms)
        )
        self._add_result(tensor, result)
        self._add_composites(nodes, result)
        origin = set_origin(tensor, places, self._lifetime)
        self.visible.add(tensor)
        return origin

    def _add_source(self, tensor: Tensor, places: Places) -> None:
        output = (tensor.grad_fn, tensor.output_nr)
        if output not in self._sources:
            self._sources[output] = Source(CopyOnWrite([tensor]), places)
            self._readers.add(self._sources[output].kept)

    def _add_result(self, tensor: Tensor, result: HiddenResult) -> None:
        self._hidden_results[result.output] = result
        self._readers.add(result.kept)
        self._handles.append(tensor.register_hook(partial(self._add_gradient, result)))  # type: ignore[no-untyped-call]

    def _add_composites(self, nodes: set[Any], result: HiddenResult) -> None:
        """Adds visible operations to the term of a hidden one that shares inner nodes with them.

        The gradient of a gradient reads inner results of the operations before it. The gradients at
        the inputs of these operations then belong to both.
        """
        numbers = {node._sequence_nr() for node in nodes}
        for composite in self.visible.composites:
            if numbers.isdisjoint(composite.nodes):
                continue
            for output in composite.results:
                _, inner = self._search(output)
                if output in self._hidden_results or inner.isdisjoint(nodes):
                    continue
                visible = self.visible.read(output)
                if visible is not None:
                    tensor, places = visible
                    kept = CopyOnWrite([tensor])
                    own = HiddenResult(kept, places, output, False, result.path, result.order)
                    self._add_result(tensor, own)
                    self.replaced.add(output[0])

    def has_any_of(self, readers: Iterable[Reader]) -> bool:
        """Whether hidden operations have any of these tensors as sources or results."""
        kept = {id(each.kept) for each in (*self._sources.values(), *self._hidden_results.values())}
        return any(id(reader) in kept for reader in readers)

    def _search(self, output: NodeOutput) -> tuple[list[Edge], set[Any]]:
        """Searches autograd's graph from a result back to visible results.

        Returns the edges to visible results, and the nodes before them.
        """
        node, _ = output
        edges: list[Edge] = []
        visited, waiting = {node}, [node]
        while waiting:
            node = waiting.pop()
            for argument, (parent, number) in enumerate(_parents(node)):
                if parent is None:
                    continue
                if (parent, number) in self.visible:
                    edges.append((node, argument, (parent, number)))
                elif parent not in visited and parent not in self._constant:
                    visited.add(parent)
                    waiting.append(parent)
        if not edges:
            self._constant |= visited
        return edges, visited

    def register_hooks(self) -> None:
        """Registers the hooks after the forward pass, because a model may take gradients in it."""
        self.visible.free()
        edges = {result: self._search(result.output)[0] for result in self._hidden_results.values()}
        # A source that is itself a hidden result has the values with which it was returned.
        sources = {**self._sources, **self._hidden_results}
        self._terms, handles = terms_and_handles(edges, sources, self._samples)
        self._handles += handles

    @property
    def terms(self) -> list[HiddenTerm]:
        """The terms of the hidden operations."""
        return list(dict.fromkeys(self._terms.values()))

    def _add_gradient(self, result: HiddenResult, gradient: Tensor | None) -> None:
        if result in self._terms and gradient is not None:
            self._terms[result].add(gradient, result, 1)

    def release(self) -> None:
        """Removes the hooks and frees all tensors."""
        for handle in self._handles:
            handle.remove()
        self.visible.release()
        for held in (
            self._handles, self._constant, self._sources, self._hidden_results, self._terms,
            self.replaced,
        ):  # fmt: skip
            held.clear()


def _parents(node: Any) -> Sequence[tuple[Any, int]]:
    """The nodes of a node's arguments; none if torch has freed the node."""
    try:
        parents: Sequence[tuple[Any, int]] = node.next_functions
    except RuntimeError:  # in torch 2.8, our reference does not keep the node of a custom function
        return ()
    return parents
