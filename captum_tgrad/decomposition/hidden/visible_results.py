"""Holds the results of visible operations as long as hidden operations may read them."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.origin import origin_of
from captum_tgrad.decomposition.places.places import Places

NodeOutput = tuple[Any, int]
"""A tensor in autograd's graph: its node, and which output of the node it is."""

_RECENT = 16  # how many results stay alive until the next operation


class Composite(NamedTuple):
    """A visible operation that has inner nodes: the numbers of its nodes, and its results."""

    nodes: range
    results: list[NodeOutput]


class VisibleResults:
    """The results of visible operations, at which a search for hidden ones ends.

    Attributes:
        are_kept: Whether to keep all of them alive until the end of the forward pass.
        has_read_freed: Whether a hidden operation has read a result that was freed.
        composites: The operations with inner nodes.
    """

    def __init__(self) -> None:
        self.are_kept = False
        self.has_read_freed = False
        self.composites: list[Composite] = []
        self._references: dict[NodeOutput, ReferenceType[Tensor]] = {}
        self._recent: deque[ReferenceType[Tensor]] = deque(maxlen=_RECENT)
        self._recent_tensors: list[Tensor] = []
        self._kept_tensors: list[Tensor] = []
        self._first_node = 0
        self._next_node = 0
        self._hidden_may_have_run = False
        self._results_of_call: list[NodeOutput] = []

    def __contains__(self, output: object) -> bool:
        return output in self._references

    def add(self, tensor: Tensor) -> None:
        """Adds the result of a visible operation."""
        node = tensor.grad_fn
        if node is not None:
            self._references[node, tensor.output_nr] = reference = ref(tensor)
            self._recent.append(reference)
            self._results_of_call.append((node, tensor.output_nr))
            if self.are_kept:
                self._kept_tensors.append(tensor)

    def before_call(self) -> None:
        """Notes before a visible call whether a hidden operation may have run since the last."""
        self._first_node = _node_count()
        self._hidden_may_have_run = self._first_node != self._next_node
        self._results_of_call = []

    def after_call(self) -> None:
        """Notes after a visible call which nodes it has made.

        Recent results stay alive until the next call, because a hidden operation may read them.
        """
        self._recent_tensors = [t for each in self._recent if (t := _alive(each)) is not None]
        if torch.is_grad_enabled():  # not inside of a custom function
            self._next_node = _node_count()
            nodes = range(self._first_node, self._next_node)
            if len(nodes) > len(self._results_of_call) > 0:
                self.composites.append(Composite(nodes, self._results_of_call))

    def note_hidden(self, node: Any) -> None:
        """Notes that the hidden operation of a node was found, with what it has read."""
        if node._sequence_nr() == _node_count() - 1:
            self._hidden_may_have_run = False

    def free_recent(self) -> None:
        """Frees recent results, unless a hidden operation may have read them."""
        if self._hidden_may_have_run:
            self._kept_tensors += self._recent_tensors
        self._recent_tensors = []

    def read(self, output: NodeOutput) -> tuple[Tensor, Places] | None:
        """A result and its places; None if it was freed, or overwritten since."""
        tensor = _alive(self._references[output])
        self.has_read_freed |= tensor is None
        origin = origin_of(tensor)
        if tensor is None or origin is None or (tensor.grad_fn, tensor.output_nr) != output:
            return None
        return tensor, origin.places

    def free(self) -> None:
        """Frees all results after the forward pass."""
        self._recent_tensors, self._kept_tensors = [], []
        self._recent.clear()

    def release(self) -> None:
        """Frees all results and their nodes."""
        self.free()
        self.composites.clear()
        self._references.clear()
        self._results_of_call = []


def _node_count() -> int:
    """The number of nodes of autograd's graph that this thread has made."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]


def _alive(reference: ReferenceType[Tensor]) -> Tensor | None:
    """The tensor behind a weak reference, as ``torch.utils.weak.TensorWeakRef`` returns it."""
    tensor = reference()
    if tensor is not None:
        tensor._fix_weakref()  # type: ignore[attr-defined]
    return tensor
