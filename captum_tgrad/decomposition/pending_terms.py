"""Terms that wait for their gradients in the backward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.bias import Bias, compute_together
from captum_tgrad.decomposition.maps.samples import SamplesLostError, samples_lost
from captum_tgrad.decomposition.maps.summing import Summing, TermSums
from captum_tgrad.decomposition.operations.misread_norms import BATCH_NORMS, readable
from captum_tgrad.decomposition.places.coordinates import LOST, Axis
from captum_tgrad.decomposition.places.origin import origin_of
from captum_tgrad.decomposition.places.places import Places
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.term import Magnitudes

_MOST_WAITING = 2**18
"""The most elements of the gradients of terms that wait, which is a megabyte in float32."""


def _call_with_part(
    hook: Callable[[Tensor | None], None],
    strides: tuple[int, ...],
    view: tuple[torch.Size, tuple[int, ...], int],
    gradient: Tensor | None,
) -> None:
    """Calls a hook with the part of a base tensor's gradient that belongs to a view of it."""
    if gradient is not None:
        if gradient.stride() != strides:
            gradient = gradient.new_empty_strided(gradient.shape, strides).copy_(gradient)
        size, stride, offset = view
        gradient = gradient.as_strided(size, stride, offset + gradient.storage_offset())
    hook(gradient)


@dataclass
class PendingTerm:
    """The term of an operation with a bias, before and after its gradient arrives.

    Args:
        module: The path of the module that ran the operation; empty outside of all modules.
        operation: The operation's name.
        in_leaf: Whether that module has no submodules.
        places: The places of its elements.
        bias: The operation's ``b``; None after the gradient has arrived.
        factor: The number of the argument that has these places; None for others.
        sums: Its sums; None before the gradient has arrived.
    """

    module: str
    operation: str
    in_leaf: bool
    places: Places
    bias: Bias | None
    sums: TermSums | None = None
    factor: int | None = None

    @property
    def magnitudes(self) -> Mapping[int, Magnitudes]:
        """The range of its elements on each input, if a method needs it."""
        return {} if self.sums is None else self.sums.magnitudes

    def with_bias(self, bias: Bias | None) -> PendingTerm:
        """The term of the same operation in another forward pass."""
        return PendingTerm(
            self.module, self.operation, self.in_leaf, self.places, bias, factor=self.factor
        )

    def lost_at(self, axes: Mapping[int, Sequence[Axis]]) -> str:
        """The operation that lost the places of the term on the axes; empty if none did."""
        coordinates = self.places.coordinates
        for lost in coordinates:
            if lost.input == LOST and any(
                axis not in coordinates for number in self.places.inputs for axis in axes[number]
            ):
                return lost.lost_at
        return ""


def names_of(terms: Sequence[PendingTerm]) -> list[str]:
    """The unique names of terms."""
    operations: dict[str, set[str]] = {}
    for each in terms:
        operations.setdefault(each.module, set()).add(each.operation)
    calls: Counter[str] = Counter()
    names = []
    for each in terms:
        if not each.module:
            name = each.operation
        elif each.in_leaf and len(operations[each.module]) == 1:
            name = each.module
        else:
            name = f"{each.module}:{each.operation}"
        calls[name] += 1
        names.append(name if calls[name] == 1 else f"{name}#{calls[name]}")
    return names


class PendingTerms:
    """Reduces each term to small sums when its gradient arrives, or small terms together later.

    Between two operations of a backward pass, Python is no longer in the processor's cache. It runs
    about twice as fast for terms that wait for each other. A recorded network may overwrite a
    gradient, so its terms only wait if their biases are computed together, with a copy of it.
    """

    def __init__(self) -> None:
        self._summing: Summing | None = None
        self._pending: list[PendingTerm] = []
        self._handles: list[RemovableHandle] = []
        self._by_node: dict[int, PendingTerm] = {}
        self._all_wait = False
        self._waiting: list[tuple[PendingTerm, Bias, Tensor]] = []
        self._elements_waiting = 0

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[PendingTerm]:
        return iter(self._pending)

    def activate(self, summing: Summing | None) -> None:
        """Activates the hooks after the forward pass, because a model may take gradients in it."""
        self._summing = summing

    def await_gradient(self, output: Tensor, bias: Bias, pending: PendingTerm) -> None:
        """Registers a hook that computes a term from the gradient at ``output``."""
        self._pending.append(pending)
        hook = partial(self._arrive, pending)
        if output.grad_fn is not None:
            self._by_node[output.grad_fn._sequence_nr()] = pending
        if bias.register_hook is not None:
            self._handles.append(bias.register_hook(hook))
            return
        node, base = output, output._base if output._is_view() else None
        if base is not None and base.requires_grad and origin_of(base) is None:
            # The operation returned only a view. If the model overwrites a part of it, autograd
            # changes the node of the base, and the view's old node gets no gradient.
            offset = int(output.storage_offset() - base.storage_offset())
            view = (output.shape, output.stride(), offset)
            node, hook = base, partial(_call_with_part, hook, base.stride(), view)
        self._handles.append(node.register_hook(hook))  # type: ignore[no-untyped-call]
        if pending.operation in BATCH_NORMS:
            self._handles.append(node.register_hook(readable))  # type: ignore[no-untyped-call]

    def await_gradient_at(self, node: Any, pending: PendingTerm) -> None:
        """Registers a hook that computes a term from the gradient at a node's first output."""
        self._pending.append(pending)
        self._all_wait = True

        is_norm = pending.operation in BATCH_NORMS

        def hook(gradients: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...] | None:
            self._arrive(pending, gradients[0])
            copied = readable(gradients[0]) if is_norm else None
            return None if copied is None else (copied, *gradients[1:])

        self._handles.append(node.register_prehook(hook))

    def by_node(self) -> dict[int, PendingTerm] | None:
        """The terms by the sequence number of their node; None if one is at no node of its own."""
        return self._by_node if len(self._by_node) == len(self._pending) else None

    def drop(self, nodes: Iterable[Any]) -> None:
        """Leaves out the terms of these nodes."""
        for node in nodes:
            pending = self._by_node.get(node._sequence_nr())
            if pending is not None:
                pending.bias = None

    def release(self) -> None:
        """Removes the hooks on the activations and frees the biases."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._waiting.clear()
        for pending in self._pending:
            pending.bias = None

    def arrived(self, hidden: Sequence[tuple[int, PendingTerm]]) -> list[PendingTerm]:
        """The terms that contribute to the output, in forward order.

        Those of hidden operations come with the number of terms before each.
        """
        self._reduce_waiting()
        # A hidden term comes before the term with its number, because sorting is stable.
        ordered = sorted([*hidden, *enumerate(self._pending)], key=lambda item: item[0])
        return [each for _, each in ordered if each.sums is not None]

    def _arrive(self, pending: PendingTerm, gradient: Tensor | None) -> None:
        """A hook: sums the product of gradient and bias, or lets a small one wait."""
        if self._summing is None or pending.bias is None:
            return
        if gradient is None or gradient._is_zerotensor() or not gradient.numel():
            return  # a backward that returns None, or a tensor without memory, means zero
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient.resolve_conj())
        bias, pending.bias = pending.bias, None
        size = gradient.numel()
        if size > _MOST_WAITING or not (self._all_wait or bias.alike is not None):
            self._reduce(pending, bias, gradient)
            return
        if not self._all_wait:
            gradient = gradient.clone()  # a custom function may overwrite it
        self._waiting.append((pending, bias, gradient))
        self._elements_waiting += size
        if self._elements_waiting > _MOST_WAITING:
            self._reduce_waiting()

    def _reduce_waiting(self) -> None:
        """Sums the products of the gradients and biases that wait."""
        waiting, self._waiting, self._elements_waiting = self._waiting, [], 0
        together: dict[object, list[Bias]] = {}
        for _, bias, _ in waiting:
            if bias.alike is not None:
                together.setdefault(bias.alike, []).append(bias)
        for biases in together.values():
            compute_together(biases)
        for pending, bias, gradient in waiting:
            self._reduce(pending, bias, gradient)

    def _reduce(self, pending: PendingTerm, bias: Bias, gradient: Tensor) -> None:
        """Sums the product of a gradient and a bias."""
        assert self._summing is not None
        try:
            with without_autocast(gradient):
                values = bias.multiplied_values(gradient)
                pending.sums = self._summing.sums_of(values, bias, pending.places)
        except SamplesLostError:
            raise samples_lost(pending.module, pending.operation) from None
