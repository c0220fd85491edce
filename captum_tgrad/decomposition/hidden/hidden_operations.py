"""Finds hidden operations, which the trace cannot see, and makes a term of each.

Examples are a scripted module, a custom ``autograd.Function`` and an operation without a
directional derivative. From the inputs ``z`` and the outputs ``y`` of such an operation, its term
is ``<df/dy, y> - <df/dz, z>``, where ``df/dz`` is the gradient through this operation alone. Hooks
on the operation's nodes in autograd's graph receive that gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Sized
from functools import partial
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from captum_tgrad.decomposition.copy_on_write import CopyOnWrite, Reader, Readers
from captum_tgrad.decomposition.hidden.hidden_places import is_constant, places_of_result
from captum_tgrad.decomposition.hidden.hidden_terms import (
    Edge,
    HiddenOutput,
    HiddenResult,
    HiddenTerm,
    Source,
    lost_in_hidden,
    terms_and_handles,
)
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.places.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.places import Places, depending_on, make_places
from captum_tgrad.decomposition.tracing.running_modules import RunningModules

_RECENT = 16  # how many results stay alive until the next operation


class FreedResultsError(Exception):
    """A hidden operation has read results that were freed before it was found."""


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
        keeps_results: Whether to keep all results alive until the end of the forward pass.
        has_read_freed: Whether a hidden operation has read a result that was freed.
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
        self.keeps_results = False
        self.has_read_freed = False
        self._visible: dict[HiddenOutput, ReferenceType[Tensor]] = {}
        self._recent: deque[ReferenceType[Tensor]] = deque(maxlen=_RECENT)
        self._recent_tensors: list[Tensor] = []
        self._kept_tensors: list[Tensor] = []
        self._next_node = 0
        self._may_have_run = False
        self._first_node = 0
        self._results_of_call: list[HiddenOutput] = []
        self._composites: list[_Composite] = []
        self._sources: dict[HiddenOutput, Source] = {}
        self._hidden_results: dict[HiddenOutput, HiddenResult] = {}
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

    def add_visible_result(self, tensor: Tensor) -> None:
        """Adds the result of a visible operation, at which the search for hidden ones ends."""
        node = tensor.grad_fn
        if node is not None:
            self._visible[node, tensor.output_nr] = reference = ref(tensor)
            self._recent.append(reference)
            self._results_of_call.append((node, tensor.output_nr))
            if self.keeps_results:
                self._kept_tensors.append(tensor)

    def after_call(self) -> None:
        """Notes after a visible call which nodes it has made.

        Recent results stay alive until the next call, because a hidden operation may read them.
        """
        self._recent_tensors = [t for each in self._recent if (t := _alive(each)) is not None]
        if torch.is_grad_enabled():  # not inside of a custom function
            self._next_node = _node_count()
            nodes = range(self._first_node, self._next_node)
            if len(nodes) > len(self._results_of_call) > 0:
                self._composites.append(_Composite(nodes, self._results_of_call))

    def before_call(self) -> None:
        """Notes before a visible call whether a hidden operation may have run since the last."""
        self._first_node = _node_count()
        self._may_have_run = self._first_node != self._next_node
        self._results_of_call = []

    def free_recent(self) -> None:
        """Frees recent results, unless a hidden operation may have read them."""
        if self._may_have_run:
            self._kept_tensors += self._recent_tensors
        self._recent_tensors = []

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
        if tensor.grad_fn._sequence_nr() == _node_count() - 1:
            self._may_have_run = False  # its sources are found below
        edges, nodes = self._search(output)
        reached = dict.fromkeys(seen for _, _, seen in edges)
        if not reached:
            return None
        sources = dict(filter(None, map(self._visible_result, reached)))
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
        self.add_visible_result(tensor)
        return origin

    def _visible_result(self, output: HiddenOutput) -> tuple[Tensor, Places] | None:
        """A visible result and its places; None if it was freed, or overwritten since."""
        tensor = _alive(self._visible[output])
        self.has_read_freed |= tensor is None
        origin = origin_of(tensor)
        if tensor is None or origin is None or (tensor.grad_fn, tensor.output_nr) != output:
            return None
        return tensor, origin.places

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
        for composite in self._composites:
            if numbers.isdisjoint(composite.nodes):
                continue
            for output in composite.results:
                _, inner = self._search(output)
                if output in self._hidden_results or inner.isdisjoint(nodes):
                    continue
                visible = self._visible_result(output)
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

    def _search(self, output: HiddenOutput) -> tuple[list[Edge], set[Any]]:
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
                if (parent, number) in self._visible:
                    edges.append((node, argument, (parent, number)))
                elif parent not in visited and parent not in self._constant:
                    visited.add(parent)
                    waiting.append(parent)
        if not edges:
            self._constant |= visited
        return edges, visited

    def register_hooks(self) -> None:
        """Registers the hooks after the forward pass, because a model may take gradients in it."""
        self._recent_tensors, self._kept_tensors = [], []
        self._recent.clear()
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
        for held in (
            self._handles, self._constant, self._visible, self._sources, self._hidden_results,
            self._terms, self._composites, self.replaced,
        ):  # fmt: skip
            held.clear()
        self._recent_tensors, self._kept_tensors, self._results_of_call = [], [], []


class _Composite(NamedTuple):
    """A visible operation that has inner nodes: the numbers of its nodes, and its results."""

    nodes: range
    results: list[HiddenOutput]


def _parents(node: Any) -> Sequence[tuple[Any, int]]:
    """The nodes of a node's arguments; none if torch has freed the node."""
    try:
        parents: Sequence[tuple[Any, int]] = node.next_functions
    except RuntimeError:  # in torch 2.8, our reference does not keep the node of a custom function
        return ()
    return parents


def _node_count() -> int:
    """The number of nodes of autograd's graph that this thread has made."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]


def _alive(reference: ReferenceType[Tensor]) -> Tensor | None:
    """The tensor behind a weak reference, as ``torch.utils.weak.TensorWeakRef`` returns it."""
    tensor = reference()
    if tensor is not None:
        tensor._fix_weakref()  # type: ignore[attr-defined]
    return tensor
