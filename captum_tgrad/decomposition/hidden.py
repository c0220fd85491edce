"""Operations that the trace cannot see into are terms, too.

A scripted module, a custom ``autograd.Function`` or an operation without a directional derivative
computes its outputs ``y`` from its inputs ``z`` out of sight. What it adds is still exact:
``<df/dy, y> - <df/dz, z>``, with the gradient at ``z`` taken through it alone, which is what hooks
on its nodes in autograd's graph see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from captum_tgrad.decomposition.bias import ElementBias
from captum_tgrad.decomposition.in_place import OldValues
from captum_tgrad.decomposition.maps import Reduced, Summing, Sums, samples_lost
from captum_tgrad.decomposition.origin import Lifetime, Origin, origin_of, set_origin
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Axis, Coordinates
from captum_tgrad.decomposition.places.places import Places, has_places, lost_places, places
from captum_tgrad.decomposition.places.reduction import reduction
from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.decomposition.scratch import Scratch

Output = tuple[Any, int]
"""A node of autograd's graph, and the number of its output."""

_RECENT = 32


class _Value:
    """The values of a tensor as they are now, for the backward pass."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()

    @property
    def storages(self) -> set[int]:
        return {self.tensor.untyped_storage().data_ptr()}

    def freeze(self) -> None:
        self.tensor = self.tensor.clone()


@dataclass
class _Source:
    """A tensor that the trace saw and that a hidden operation reads."""

    value: _Value
    places: Places
    inputs: frozenset[int]


@dataclass(eq=False)
class _Root:
    """A tensor that a hidden operation returned."""

    output: Output
    value: _Value
    places: Places
    is_elementwise: bool
    path: str
    order: int


@dataclass(eq=False)
class HiddenTerm:
    """What hidden operations add that have nodes in common.

    Args:
        roots: What they return.
        sources: What they read.
        total: The contribution so far: element by element where each output element belongs to
            one input element, or by sample.
        arrived: Whether any gradient has.
    """

    roots: list[_Root]
    sources: dict[Output, _Source] = field(default_factory=dict)
    total: Tensor | None = None

    @property
    def is_elementwise(self) -> bool:
        """Whether outputs and inputs are one tensor each, element by element."""
        (first, *others) = self.roots
        return not others and first.is_elementwise and len(self.sources) == 1

    @property
    def inputs(self) -> frozenset[int]:
        """The numbers of the network's inputs that reach it."""
        return frozenset().union(*(source.inputs for source in self.sources.values()))


class HiddenOperations:
    """Finds results that no operation in sight has made, and collects what made them.

    Args:
        old_values: Is told which values are read in the backward pass.
        lifetime: That of the trace.
        samples: The batch size.
    """

    def __init__(self, old_values: OldValues, lifetime: Lifetime, samples: int) -> None:
        self._old_values = old_values
        self._lifetime = lifetime
        self._samples = samples
        self._seen: dict[Output, ref[Tensor]] = {}
        self._recent: deque[ref[Tensor]] = deque(maxlen=_RECENT)
        self._held: list[Tensor] = []
        self._sources: dict[Output, _Source] = {}
        self._roots: dict[Output, _Root] = {}
        self._handles: list[Any] = []
        self._constant: set[Any] = set()
        self._armed = False
        self.terms: list[HiddenTerm] = []

    def see(self, tensor: Tensor) -> None:
        """Remembers the result of an operation in sight: there a search for hidden ones ends."""
        if tensor.grad_fn is not None:
            self._seen[tensor.grad_fn, tensor.output_nr] = known = ref(tensor)
            self._recent.append(known)

    def hold(self) -> None:
        """Keeps recent results alive until the next operation: a hidden one may read them."""
        self._held = [tensor for known in self._recent if (tensor := known()) is not None]

    def let_go(self) -> None:
        """Lets memory go that only :meth:`hold` has kept."""
        self._held = []

    def found(self, tensor: Tensor, path: str, order: int) -> Origin | None:
        """The origin of a tensor that a hidden operation returned; None if it is a constant.

        Args:
            tensor: A tensor without an origin that requires a gradient.
            path: The module that ran.
            order: How many terms come before it.
        """
        if tensor.grad_fn is None:
            return None
        output = (tensor.grad_fn, tensor.output_nr)
        reached = dict.fromkeys(seen for _, _, seen in self._edges(output))
        if not reached:
            return None
        known, inputs = [], frozenset[int]()
        for seen in reached:
            source = self._seen[seen]()
            origin = origin_of(source)
            if source is None or origin is None:
                continue
            known.append(source)
            inputs |= origin.inputs
            if seen not in self._sources:
                self._sources[seen] = _Source(_Value(source), origin.places, origin.inputs)
                self._old_values.are_read_by(self._sources[seen].value)
        everything = torch.ones((), dtype=torch.bool, device=tensor.device)
        if not known or _gradient_of(tensor, known, everything) is None:
            return None  # a backward that returns None makes it a constant
        given, is_elementwise = self._places(tensor, known, path)
        origin = Origin(given, inputs, self._lifetime)
        set_origin(tensor, origin)
        root = _Root(output, _Value(tensor), given, is_elementwise, path, order)
        self._old_values.are_read_by(root.value)
        self._roots[output] = root
        self._handles.append(tensor.register_hook(partial(self._left, root)))  # type: ignore[no-untyped-call]
        self.see(tensor)
        return origin

    def _edges(self, output: Output) -> Iterator[tuple[Any, int, Output]]:
        """Where a hidden operation reads what was seen: its node, the argument, and what it is."""
        node, _ = output
        found = False
        visited, waiting = {node}, [node]
        while waiting:
            node = waiting.pop()
            for argument, (parent, number) in enumerate(node.next_functions):
                if parent is None:
                    continue
                if (parent, number) in self._seen and (parent, number) != output:
                    found = True
                    yield node, argument, (parent, number)
                elif parent not in visited and parent not in self._constant:
                    visited.add(parent)
                    waiting.append(parent)
        if not found:
            self._constant |= visited

    def _places(self, tensor: Tensor, known: list[Tensor], path: str) -> tuple[Places, bool]:
        """The places of the output, if a backward pass through the operation confirms them."""
        source = max(known, key=torch.Tensor.numel)
        origin = origin_of(source)
        if origin is None:
            return places(tensor.shape, {}), False
        same = len(known) == 1 and source.shape == tensor.shape
        claims: dict[Axis, tuple[Coordinates, ...]] = {}
        for axis, own in origin.places.claims.items():
            if same:
                claims[axis] = own
            elif axis.input == SAMPLES and tensor.dim() and len(own) == 1:
                size = own[0].index.numel()
                if own[0].dims in ((), (0,)) and size in (1, tensor.shape[0]):
                    index = own[0].index.reshape([size, *[1] * (tensor.dim() - 1)])
                    claims[axis] = (Coordinates(index, own[0].cells),)
        if self._samples > 1 and not self._keeps_samples(tensor, source, claims):
            claims = {axis: own for axis, own in claims.items() if axis.input != SAMPLES}
        if same and self._keeps_places(tensor, source, claims):
            return places(tensor.shape, claims), True
        claims = {axis: own for axis, own in claims.items() if axis.input == SAMPLES}
        given = places(tensor.shape, claims)
        if has_places(origin.places):
            given = lost_places(given.shape, given.claims, f"{path}:hidden" if path else "hidden")
        return given, False

    def _keeps_samples(
        self, tensor: Tensor, source: Tensor, claims: dict[Axis, tuple[Coordinates, ...]]
    ) -> bool:
        axis = next((axis for axis in claims if axis.input == SAMPLES), None)
        if axis is None or claims[axis][0].dims != (0,):
            return False
        numbers = torch.arange(len(tensor), device=tensor.device)
        for bit in range((len(tensor) - 1).bit_length()):
            chosen = numbers >> bit & 1 == 1
            for part in (chosen, ~chosen):
                gradients = _gradient_of(tensor, [source], _along(part, tensor, 0))
                if gradients is None or bool(gradients[0][~part].any()):
                    return False
        return True

    def _keeps_places(
        self, tensor: Tensor, source: Tensor, claims: dict[Axis, tuple[Coordinates, ...]]
    ) -> bool:
        """Whether halves and quarters along each dimension of places depend on themselves."""
        dims = {
            dim
            for axis, own in claims.items()
            if axis.input != SAMPLES
            for claim in own
            for dim in claim.dims
        }
        for dim in dims:
            size = tensor.shape[dim]
            for parts in {2, min(4, size)}:
                chosen = torch.arange(size, device=tensor.device) * parts // size % 2 == 0
                gradients = _gradient_of(tensor, [source], _along(chosen, tensor, dim))
                if gradients is None:
                    return False
                mass = gradients[0].abs().movedim(dim, 0).flatten(1).sum(1)
                if bool(mass[chosen].sum() < 2 * mass[~chosen].sum()):
                    return False
        return True

    def arm(self) -> None:
        """Starts listening, after the forward pass: gradients taken inside it are the model's."""
        self._armed = True
        self.let_go()
        self._recent.clear()
        by_node: dict[Any, HiddenTerm] = {}
        listening: dict[Any, list[tuple[int, Output]]] = {}
        for root in self._roots.values():
            term = HiddenTerm([root])
            edges = list(self._edges(root.output))
            for node in {root.output[0], *(node for node, _, _ in edges)}:
                other = by_node.get(node)
                if other is not None and other is not term:
                    other.roots += [r for r in term.roots if r not in other.roots]
                    other.sources.update(term.sources)
                    for key, value in by_node.items():
                        if value is term:
                            by_node[key] = other
                    term = other
                by_node[node] = term
            for node, argument, seen in edges:
                if seen in self._sources or seen in self._roots:
                    term.sources[seen] = self._source(seen)
                    found = listening.setdefault(node, [])
                    if (argument, seen) not in found:
                        found.append((argument, seen))
        self.terms = list(dict.fromkeys(by_node.values()))
        for node, arguments in listening.items():
            hook = partial(self._entered, by_node[node], arguments)
            self._handles.append(node.register_hook(hook))
        self._by_root = {root: term for term in self.terms for root in term.roots}

    def _source(self, seen: Output) -> _Source:
        if seen not in self._sources:
            root = self._roots[seen]
            inputs = frozenset().union(*(s.inputs for s in self._sources.values()))
            self._sources[seen] = _Source(root.value, root.places, inputs)
        return self._sources[seen]

    @torch.no_grad()
    def _left(self, root: _Root, gradient: Tensor | None) -> None:
        if self._armed and gradient is not None:
            self._add(self._by_root[root], gradient, root.value, root.places, 1)

    @torch.no_grad()
    def _entered(
        self,
        term: HiddenTerm,
        arguments: list[tuple[int, Output]],
        gradients: tuple[Tensor | None, ...],
        _: Any,
    ) -> None:
        for argument, seen in arguments:
            gradient = gradients[argument]
            if gradient is not None:
                source = term.sources[seen]
                self._add(term, gradient, source.value, source.places, -1)

    def _add(
        self, term: HiddenTerm, gradient: Tensor, value: _Value, given: Places, sign: int
    ) -> None:
        product = in_full_precision(gradient * value.tensor) * sign
        if product.is_complex():
            product = torch.view_as_real(gradient.resolve_conj()) * torch.view_as_real(
                value.tensor.resolve_conj()
            )
            product = product.sum(-1) * sign
        if not term.is_elementwise:
            by = reduction(given, (), self._samples)
            over = [dim for dim in range(product.dim()) if dim not in by.kept]
            if over:
                product = product.sum(over, keepdim=True)
            if by.has_unknown_samples and bool(product.any()):
                raise samples_lost(term.roots[0].path, "hidden")
            product = by.into_cells(product)[0].reshape(-1)
        term.total = product if term.total is None else term.total + product

    def reduced(self, term: HiddenTerm, summing: Summing, scratch: Scratch) -> Reduced | None:
        """The sums of a term whose gradients have arrived."""
        if term.total is None:
            return None
        if term.is_elementwise:
            one = ElementBias(partial(torch.ones, (), dtype=term.total.dtype))
            given = term.roots[0].places
            return summing.reduced(term.total, one, given, term.inputs, scratch)
        total = term.total.reshape(-1, 1).to(summing.device)
        by = reduction(term.roots[0].places, (), summing.samples)
        beside = total.new_zeros(2, len(total))
        return Reduced({number: Sums(total, total.abs(), beside, by) for number in term.inputs})

    def release(self) -> None:
        """Removes the hooks and lets go of all that was held."""
        for handle in self._handles:
            handle.remove()
        for held in (
            self._handles,
            self._constant,
            self._seen,
            self._sources,
            self._roots,
            self._held,
        ):
            held.clear()
        self.terms = []


def _along(part: Tensor, tensor: Tensor, dim: int) -> Tensor:
    """A mask of a part of a dimension, to multiply the tensor with."""
    return part.reshape([-1 if d == dim else 1 for d in range(tensor.dim())])


def _gradient_of(tensor: Tensor, sources: list[Tensor], part: Tensor) -> list[Tensor] | None:
    """The gradients of a part of an output, through a hidden operation; None if there are none."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(tensor.shape, generator=generator).add_(0.5).to(tensor) * part
    gradients = torch.autograd.grad(tensor, sources, probe, retain_graph=True, allow_unused=True)
    if all(gradient is None for gradient in gradients):
        return None
    return [
        torch.zeros_like(source) if gradient is None else gradient
        for gradient, source in zip(gradients, sources, strict=True)
    ]
