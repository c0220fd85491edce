"""Terms whose gradients are still to arrive in the backward pass."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from captum_tgrad.decomposition.biases.bias import Bias
from captum_tgrad.decomposition.blocks import ELEMENTS_OF_A_BLOCK
from captum_tgrad.decomposition.layouts.layout import Layout
from captum_tgrad.decomposition.maps import SamplesLostError, Sums, maps_of_sums, sums_of_bias
from captum_tgrad.decomposition.precision import without_autocast
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.terms import Term


@dataclass
class PendingTerm:
    """An operation with a bias: waiting for its gradient, then holding its sums.

    Args:
        module: The path of the module that ran the operation; empty outside of all modules.
        operation: The operation's name.
        in_leaf: Whether that module has no submodules.
        inputs: The numbers of the network's inputs on which the operation depends.
        layout: Where the elements of its output are.
        bias: Its ``b``, until the gradient has arrived.
        sums: The term, when it has.
    """

    module: str
    operation: str
    in_leaf: bool
    inputs: frozenset[int]
    layout: Layout
    bias: Bias | None
    sums: Sums | None = None


class PendingTerms:
    """Reduces each term to two small sums as soon as its gradient arrives.

    Args:
        samples: The batch size.
        device: Where the terms go: a model may be spread over several.
        with_magnitudes: Whether to find the range of each term's elements, too.
    """

    def __init__(self, samples: int, device: torch.device, with_magnitudes: bool) -> None:
        self._samples = samples
        self._device = device
        self._with_magnitudes = with_magnitudes
        self._pending: list[PendingTerm] = []
        self._handles: list[RemovableHandle] = []
        self._scratch = Scratch(ELEMENTS_OF_A_BLOCK)

    def await_gradient(self, output: Tensor, term: PendingTerm) -> None:
        """Waits for the gradient of an operation's output."""
        self._pending.append(term)
        handle = output.register_hook(partial(self._arrive, term))  # type: ignore[no-untyped-call]
        self._handles.append(handle)

    def release(self) -> None:
        """Removes the hooks on the activations and lets go of what waits for a gradient."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for term in self._pending:
            term.bias = None

    def arrived(self) -> list[Term]:
        """The terms that reached the output, in forward order, under names that are unique."""
        arrived = [(term, term.sums) for term in self._pending if term.sums is not None]
        operations: dict[str, set[str]] = {}
        for term, _ in arrived:
            operations.setdefault(term.module, set()).add(term.operation)
        calls: Counter[str] = Counter()
        terms = []
        for (term, _), maps in zip(arrived, maps_of_sums([s for _, s in arrived]), strict=True):
            if not term.module:
                name = term.operation
            elif term.in_leaf and len(operations[term.module]) == 1:
                name = term.module
            else:
                name = f"{term.module}:{term.operation}"
            calls[name] += 1
            name = name if calls[name] == 1 else f"{name}#{calls[name]}"
            inputs = tuple(sorted(term.inputs))
            terms.append(
                Term(name, maps.positive, maps.negative, maps.score, inputs, maps.magnitudes)
            )
        return terms

    @torch.no_grad()
    def _arrive(self, term: PendingTerm, gradient: Tensor) -> None:
        if term.bias is None:
            return
        if gradient.is_complex():
            gradient = torch.view_as_real(gradient.resolve_conj())
        try:
            with without_autocast(gradient):
                sums = sums_of_bias(
                    gradient,
                    term.bias,
                    term.layout,
                    self._samples,
                    self._scratch,
                    self._with_magnitudes,
                )
            term.sums = sums.to(self._device)
        except SamplesLostError:
            raise SamplesLostError(
                f"The samples of the batch cannot be told apart at the operation {term.operation!r}"
                f" in {term.module or 'forward_func'!r}: an operation before it mixes them, or may"
                " have put them into another order. Explain them one at a time, in batches of 1."
            ) from None
        term.bias = None
