"""Finds hidden operations, which the trace cannot see, and makes a term of each.

Examples are a scripted module, a custom ``autograd.Function`` and an operation without a
directional derivative. From the inputs ``z`` and the outputs ``y`` of such an operation, its term
is ``<df/dy, y> - <df/dz, z>``, where ``df/dz`` is the gradient through this operation alone. Hooks
on the operation's nodes in autograd's graph receive that gradient.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from captum_tgrad.decomposition.hidden_terms import (
    Edge,
    HiddenOutput,
    HiddenTerm,
    Root,
    Source,
    Value,
    lost_in_hidden,
    terms_and_hooks,
)
from captum_tgrad.decomposition.old_values import OldValues
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Coordinates
from captum_tgrad.decomposition.places.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.places import (
    Places,
    depending_on,
    has_places,
    places,
    samples_only,
)
from captum_tgrad.decomposition.places.reduction import sample_numbers
from captum_tgrad.decomposition.precision import without_nan

_RECENT = 16  # how many results stay alive until the next operation


class HiddenOperations:
    """Finds the results of hidden operations, and collects their terms.

    Args:
        old_values: Registers the values that are read in the backward pass.
        lifetime: The lifetime of the trace.
        samples: The batch size.
        inputs: The numbers of the network's inputs, if there are several.
    """

    def __init__(
        self, old_values: OldValues, lifetime: Lifetime, samples: int, inputs: frozenset[int]
    ) -> None:
        self._old_values = old_values
        self._lifetime = lifetime
        self._samples = samples
        self._all_inputs = inputs
        self._seen: dict[HiddenOutput, ReferenceType[Tensor]] = {}
        self._recent: deque[ReferenceType[Tensor]] = deque(maxlen=_RECENT)
        self._held: list[Tensor] = []
        self._kept: list[Tensor] = []
        self._next_node = 0
        self._has_run = False
        self._sources: dict[HiddenOutput, Source] = {}
        self._roots: dict[HiddenOutput, Root] = {}
        self._handles: list[Any] = []
        self._constant: set[Any] = set()
        self._terms: dict[Root, HiddenTerm] = {}

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

    def hold(self) -> None:
        """Keeps recent results alive until the next operation, as a hidden one may read them."""
        self._held = [t for reference in self._recent if (t := _alive(reference)) is not None]
        if torch.is_grad_enabled():  # they are disabled inside of a custom function
            self._next_node = _node_count()

    def notice(self) -> None:
        """Notices whether a hidden operation has run since the last visible one."""
        self._has_run = _node_count() != self._next_node

    def free(self) -> None:
        """Frees what only :meth:`hold` kept alive, unless a hidden operation may have read it."""
        if self._has_run:
            self._kept += self._held
        self._held = []

    def origin_of_result(
        self, tensor: Tensor, path: str, order: int, known_places: Places | None = None
    ) -> Origin | None:
        """Records a result of a hidden operation and returns its origin; None for a constant.

        Args:
            tensor: A tensor that requires a gradient and has no origin.
            path: The path of the running module.
            order: The number of terms before it.
            known_places: The places of its elements, if the trace has seen the call.
        """
        if tensor.grad_fn is None:
            return None
        output = (tensor.grad_fn, tensor.output_nr)
        if tensor.grad_fn._sequence_nr() == _node_count() - 1:
            self._has_run = False  # its sources are found below
        reached = dict.fromkeys(seen for _, _, seen in self._edges(output))
        if not reached:
            return None
        sources, inputs = [], frozenset[int]()
        for seen in reached:
            source = _alive(self._seen[seen])
            origin = origin_of(source)
            if source is None or origin is None or (source.grad_fn, source.output_nr) != seen:
                continue  # freed, or overwritten since
            sources.append(source)
            inputs |= origin.places.inputs
            if seen not in self._sources:
                self._sources[seen] = Source(Value(source), origin.places)
                self._old_values.are_read_by(self._sources[seen].value)
        everything = torch.ones((), dtype=torch.bool, device=tensor.device)
        if not sources:  # all sources were freed: the term is incomplete and leaves a residual
            given, is_elementwise = lost_in_hidden(tensor.shape, places(tensor.shape), path), False
            inputs = self._all_inputs
        elif _gradient_of(tensor, sources, everything) is None:
            return None  # its backward returns None, so the result is a constant
        else:
            given, is_elementwise = self._places(tensor, sources, path)
            if known_places is not None and known_places.samples and not is_elementwise:
                given = known_places
        if self._all_inputs:
            given = depending_on(given, inputs)
        origin = set_origin(tensor, given, self._lifetime)
        root = Root(Value(tensor), given, output, is_elementwise, path, order)
        self._old_values.are_read_by(root.value)
        self._roots[output] = root
        self._handles.append(tensor.register_hook(partial(self._add_root, root)))  # type: ignore[no-untyped-call]
        self.see(tensor)
        return origin

    def _edges(self, output: HiddenOutput) -> Iterator[Edge]:
        """Searches autograd's graph from a hidden result back to visible results."""
        node, _ = output
        found = False
        visited, waiting = {node}, [node]
        while waiting:
            node = waiting.pop()
            for argument, (parent, number) in enumerate(node.next_functions):
                if parent is None:
                    continue
                if (parent, number) in self._seen:
                    found = True
                    yield node, argument, (parent, number)
                elif parent not in visited and parent not in self._constant:
                    visited.add(parent)
                    waiting.append(parent)
        if not found:
            self._constant |= visited

    def _places(self, tensor: Tensor, sources: list[Tensor], path: str) -> tuple[Places, bool]:
        """The places that backward passes confirm, and whether they are those of all sources."""
        read = [origin.places for source in sources if (origin := origin_of(source)) is not None]
        source, given = max(zip(sources, read, strict=True), key=lambda each: each[0].numel())
        same = source.shape == tensor.shape and all(each is given for each in read)
        samples = samples_only(given)
        if same and self._keep_samples(tensor, sources, samples, read):
            if self._keep_places(tensor, sources, given):
                return given, True
        else:
            samples = _samples_first(tensor, given)
            if not self._keep_samples(tensor, sources, samples, read):
                samples = places(tensor.shape)
        if any(map(has_places, read)):
            samples = lost_in_hidden(tensor.shape, samples, path)
        return samples, False

    def _keep_samples(
        self, tensor: Tensor, sources: list[Tensor], given: Places, read: list[Places]
    ) -> bool:
        """Whether each sample of the output depends on the same sample of the sources only.

        Each bit of the sample numbers splits the batch in two parts, which must be independent.
        """
        if self._samples == 1:
            return True
        own = sample_numbers(given, self._samples).to(tensor.device)
        others = [
            sample_numbers(each, self._samples).to(source.device)
            for each, source in zip(read, sources, strict=True)
        ]
        for bit in range((self._samples - 1).bit_length()):
            for side in (0, 1):
                gradients = _gradient_of(tensor, sources, own >> bit & 1 == side)
                if gradients is None:
                    return False
                for gradient, sample in zip(gradients, others, strict=True):
                    if bool(((sample >> bit & 1 != side) & (gradient != 0)).any()):
                        return False
        return True

    def _keep_places(self, tensor: Tensor, sources: list[Tensor], given: Places) -> bool:
        """Whether every other half, and every other quarter, of a dimension depends on itself."""
        dims = {dim for axis, claim in given.pairs if axis.input != SAMPLES for dim in claim.dims}
        for dim in dims:
            size = tensor.shape[dim]
            for parts in {2, min(4, size)}:
                chosen = torch.arange(size, device=tensor.device) * parts // size % 2 == 0
                gradients = _gradient_of(tensor, sources, _as_mask(chosen, tensor, dim))
                if gradients is None:
                    return False
                for gradient in gradients:
                    mass = gradient.abs().movedim(dim, 0).reshape(size, -1).sum(1)
                    if bool(mass[chosen].sum() < 2 * mass[~chosen].sum()):
                        return False
        return True

    def arm(self) -> None:
        """Registers the hooks after the forward pass, because a model may take gradients in it."""
        self._held, self._kept = [], []
        self._recent.clear()
        edges = {root: list(self._edges(root.output)) for root in self._roots.values()}
        # If a source is also a root, use its values at the time when it was returned.
        sources = {**self._sources, **self._roots}
        self._terms, hooks = terms_and_hooks(edges, sources, self._samples)
        self._handles += [hook() for hook in hooks]

    @property
    def terms(self) -> list[HiddenTerm]:
        """The terms of the hidden operations."""
        return list(dict.fromkeys(self._terms.values()))

    def _add_root(self, root: Root, gradient: Tensor | None) -> None:
        if root in self._terms and gradient is not None:
            self._terms[root].add(gradient, root, 1)

    def release(self) -> None:
        """Removes the hooks and frees all tensors."""
        for handle in self._handles:
            handle.remove()
        for held in (self._handles, self._constant, self._seen, self._sources, self._roots):
            held.clear()
        self._terms.clear()
        self._held, self._kept = [], []


def _node_count() -> int:
    """The number of nodes of autograd's graph that this thread has made."""
    return int(torch.autograd._get_sequence_nr())  # type: ignore[attr-defined]


def _alive(reference: ReferenceType[Tensor]) -> Tensor | None:
    """The tensor behind a weak reference, as ``torch.utils.weak.TensorWeakRef`` returns it."""
    tensor = reference()
    if tensor is not None:
        tensor._fix_weakref()  # type: ignore[attr-defined]
    return tensor


def _samples_first(tensor: Tensor, given: Places) -> Places:
    """Places with the samples of a source along a tensor's first dimension, if the size fits."""
    for axis, own in given.claims.items():
        if axis.input == SAMPLES and tensor.dim() and len(own) == 1 and len(own[0].dims) < 2:
            size = own[0].index.numel()
            if size in (1, tensor.shape[0]):
                index = own[0].index.reshape([size, *[1] * (tensor.dim() - 1)])
                return places(tensor.shape, [(axis, Coordinates(index, own[0].cells))])
    return places(tensor.shape)


def _as_mask(part: Tensor, tensor: Tensor, dim: int) -> Tensor:
    """Reshapes a boolean vector along one dimension so that it broadcasts to the tensor."""
    return part.reshape([-1 if d == dim else 1 for d in range(tensor.dim())])


def _gradient_of(tensor: Tensor, sources: list[Tensor], part: Tensor) -> list[Tensor] | None:
    """The gradients of a masked output at its sources, 0 for NaN; None if all are None."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(tensor.shape, generator=generator, device="cpu").add_(0.5).to(tensor) * part
    gradients = torch.autograd.grad(tensor, sources, probe, retain_graph=True, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        return None
    return [
        torch.zeros_like(source) if gradient is None else without_nan(gradient)
        for gradient, source in zip(gradients, sources, strict=True)
    ]
