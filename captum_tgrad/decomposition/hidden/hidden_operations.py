"""Finds hidden operations, which the trace cannot see, and makes a term of each.

Examples are a scripted module, a custom ``autograd.Function`` and an operation without a
directional derivative. From the inputs ``z`` and the outputs ``y`` of such an operation, its term
is ``<df/dy, y> - <df/dz, z>``, where ``df/dz`` is the gradient through this operation alone. Hooks
on the operation's nodes in autograd's graph receive that gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Sized
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from captum_tgrad.decomposition.hidden.hidden_places import is_constant, places_of_result
from captum_tgrad.decomposition.hidden.hidden_terms import (
    Edge,
    HiddenOutput,
    HiddenTerm,
    Root,
    Source,
    lost_in_hidden,
    terms_and_hooks,
)
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.old_values import Kept, OldValues, Reader
from captum_tgrad.decomposition.places.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.places import Places, depending_on, make_places
from captum_tgrad.decomposition.tracing.running_modules import RunningModules

_RECENT = 16  # how many results stay alive until the next operation


class FreedResultsError(Exception):
    """A hidden operation has read results that were freed before it was found."""


class HiddenOperations:
    """Finds the results of hidden operations, and collects their terms.

    Args:
        old_values: Registers the values that are read in the backward pass.
        lifetime: The lifetime of the trace.
        modules: The modules that are running.
        terms: The terms so far.
        samples: The batch size.
        inputs: The numbers of the network's inputs, if there are several.

    Attributes:
        keeps_results: Whether to keep all results alive until the end of the forward pass.
        freed: Whether a hidden operation has read a result that was freed.
        replaced: The nodes of visible results whose terms are part of hidden ones.
    """

    def __init__(
        self,
        old_values: OldValues,
        lifetime: Lifetime,
        modules: RunningModules,
        terms: Sized,
        samples: int,
        inputs: frozenset[int],
    ) -> None:
        self._old_values = old_values
        self._lifetime = lifetime
        self._modules = modules
        self._visible_terms = terms
        self._samples = samples
        self._all_inputs = inputs
        self.keeps_results = False
        self.freed = False
        self._seen: dict[HiddenOutput, ReferenceType[Tensor]] = {}
        self._recent: deque[ReferenceType[Tensor]] = deque(maxlen=_RECENT)
        self._held: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._next_node = 0
        self._has_run = False
        self._first_node = 0
        self._results: list[HiddenOutput] = []
        self._composites: list[_Composite] = []
        self._sources: dict[HiddenOutput, Source] = {}
        self._roots: dict[HiddenOutput, Root] = {}
        self._handles: list[Any] = []
        self._constant: set[Any] = set()
        self._terms: dict[Root, HiddenTerm] = {}
        self.replaced: set[Any] = set()

    @property
    def found(self) -> bool:
        """Whether the network has a hidden operation."""
        return bool(self._roots)

    def see(self, tensor: Tensor) -> None:
        """Registers the result of a visible operation; the search for hidden ones stops there."""
        node = tensor.grad_fn
        if node is not None:
            self._seen[node, tensor.output_nr] = reference = ref(tensor)
            self._recent.append(reference)
            self._results.append((node, tensor.output_nr))
            if self.keeps_results:
                self._kept.append(tensor)

    def hold(self) -> None:
        """Keeps recent results alive until the next operation, as a hidden one may read them."""
        self._held = [t for reference in self._recent if (t := _alive(reference)) is not None]
        if torch.is_grad_enabled():  # they are disabled inside of a custom function
            self._next_node = _node_count()
            nodes = range(self._first_node, self._next_node)
            if len(nodes) > len(self._results) > 0:
                self._composites.append(_Composite(nodes, self._results))

    def notice(self) -> None:
        """Notices whether a hidden operation has run since the last visible one."""
        self._first_node = _node_count()
        self._has_run = self._first_node != self._next_node
        self._results = []

    def free(self) -> None:
        """Frees what only :meth:`hold` kept alive, unless a hidden operation may have read it."""
        if self._has_run:
            self._kept += self._held
        self._held = []

    def look_in(self, path: str, output: Any) -> None:
        """Finds the results of hidden operations in the output of a module."""
        if origin_of(output) is not None:
            return
        with torch._C.DisableTorchFunction():
            for tensor in tensors_in(output):
                if tensor.requires_grad and origin_of(tensor) is None:
                    self.origin_of_result(tensor, path=path)

    def origin_of_result(
        self, tensor: Tensor, known_places: Places | None = None, path: str | None = None
    ) -> Origin | None:
        """Records a result of a hidden operation and returns its origin; None for a constant.

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
            self._has_run = False  # its sources are found below
        edges, nodes = self._search(output)
        reached = dict.fromkeys(seen for _, _, seen in edges)
        if not reached:
            return None
        sources, inputs = [], frozenset[int]()
        for seen in reached:
            source = _alive(self._seen[seen])
            self.freed |= source is None
            origin = origin_of(source)
            if source is None or origin is None or (source.grad_fn, source.output_nr) != seen:
                continue  # freed, or overwritten since
            sources.append(source)
            inputs |= origin.places.inputs
            if seen not in self._sources:
                self._sources[seen] = Source(Kept([source]), origin.places)
                self._old_values.are_read_by(self._sources[seen].kept)
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
        root = Root(Kept([tensor]), places, output, is_elementwise, path, len(self._visible_terms))
        self._add_root(tensor, root)
        self._add_composites(nodes, root)
        origin = set_origin(tensor, places, self._lifetime)
        self.see(tensor)
        return origin

    def _add_root(self, tensor: Tensor, root: Root) -> None:
        self._roots[root.output] = root
        self._old_values.are_read_by(root.kept)
        self._handles.append(tensor.register_hook(partial(self._arrive, root)))  # type: ignore[no-untyped-call]

    def _add_composites(self, nodes: set[Any], root: Root) -> None:
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
                if output in self._roots or inner.isdisjoint(nodes):
                    continue
                tensor = _alive(self._seen[output])
                self.freed |= tensor is None
                origin = origin_of(tensor)
                if tensor is None or origin is None or tensor.grad_fn is not output[0]:
                    continue  # freed, or overwritten since
                known = replace(root, kept=Kept([tensor]), places=origin.places, output=output)
                self._add_root(tensor, replace(known, is_elementwise=False))
                self.replaced.add(output[0])

    def keeps(self, readers: Iterable[Reader]) -> bool:
        """Whether any of these readers belongs to a source or a result of a hidden operation."""
        kept = {id(each.kept) for each in (*self._sources.values(), *self._roots.values())}
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
                if (parent, number) in self._seen:
                    edges.append((node, argument, (parent, number)))
                elif parent not in visited and parent not in self._constant:
                    visited.add(parent)
                    waiting.append(parent)
        if not edges:
            self._constant |= visited
        return edges, visited

    def arm(self) -> None:
        """Registers the hooks after the forward pass, because a model may take gradients in it."""
        self._held, self._kept = [], []
        self._recent.clear()
        edges = {root: self._search(root.output)[0] for root in self._roots.values()}
        # If a source is also a root, use its values at the time when it was returned.
        sources = {**self._sources, **self._roots}
        self._terms, hooks = terms_and_hooks(edges, sources, self._samples)
        self._handles += [hook() for hook in hooks]

    @property
    def terms(self) -> list[HiddenTerm]:
        """The terms of the hidden operations."""
        return list(dict.fromkeys(self._terms.values()))

    def _arrive(self, root: Root, gradient: Tensor | None) -> None:
        if root in self._terms and gradient is not None:
            self._terms[root].add(gradient, root, 1)

    def release(self) -> None:
        """Removes the hooks and frees all tensors."""
        for handle in self._handles:
            handle.remove()
        for held in (
            self._handles, self._constant, self._seen, self._sources, self._roots, self._terms,
            self._composites, self.replaced,
        ):  # fmt: skip
            held.clear()
        self._held, self._kept, self._results = [], [], []


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
