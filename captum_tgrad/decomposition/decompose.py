"""Decomposes ``f(x)`` into a sum of terms in one forward and one backward pass (eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import set_checkpoint_early_stop

from captum_tgrad._support.random_state import RandomState
from captum_tgrad.decomposition.maps.stacks import scores_of, stacked_maps
from captum_tgrad.decomposition.maps.summing import Summing
from captum_tgrad.decomposition.nested import own_containers, usable_in_backward
from captum_tgrad.decomposition.operations.running_statistics import KeptStatistics
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places, depending_on, samples_of
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast
from captum_tgrad.decomposition.raw_decomposition import RawDecomposition
from captum_tgrad.decomposition.refusals import (
    refuse_known_errors,
    refuse_other_order,
    refuse_unused_inputs,
)
from captum_tgrad.decomposition.reliability import is_complete_to_rounding, warn_if_unreliable
from captum_tgrad.decomposition.replay.replay import Replay
from captum_tgrad.decomposition.tracing.compiled_models import (
    compiled_models_run_eagerly,
    uncompiled,
)
from captum_tgrad.decomposition.tracing.recorder import Recorder
from captum_tgrad.decomposition.tracing.trace import Trace

Forward = Callable[..., Any]
Gradients = Callable[[Forward, tuple[Tensor, ...]], Sequence[Tensor]]
Select = Callable[[Any], Tensor]


def decompose(
    forward: Forward,
    inputs: Sequence[Tensor],
    gradients: Gradients,
    select: Select,
    *,
    places: Sequence[Places],
    with_magnitudes: bool = False,
    replay: Replay | None = None,
) -> RawDecomposition:
    """Decomposes the selected output of ``forward`` at ``inputs``.

    Args:
        forward: The network: any callable whose first arguments are the inputs.
        inputs: Floating-point tensors, batch dimension first. They are not changed.
        gradients: Takes a function that returns the selected output, and leaf tensors. Runs the
            function and returns the gradients of its output, summed over samples, at the tensors.
        select: Takes the result of ``forward`` and returns the output to explain, shape ``(N,)``.
        places: The places of each input's elements.
        with_magnitudes: Whether to compute the range of each bias term's elements as well.
        replay: Keeps a recorded forward pass for the next call.

    Returns:
        The decomposition and the inputs' contributions.

    Raises:
        ValueError: The output does not depend on one of the inputs, a batch norm is in training
            mode, the samples of the batch cannot be told apart, or the model has tensors that were
            made under ``torch.inference_mode``.

    Warns:
        UserWarning: The terms do not add up to the output, a term is only rounding error, an
            operation loses the positions of its input, dropout is in training mode, or the network
            writes to the result of a hidden operation without autograd.
    """
    forward = uncompiled(forward)
    leaves = tuple(_leaf(tensor) for tensor in inputs)
    if len(leaves) > 1:
        places = [depending_on(each, [number]) for number, each in enumerate(places)]
    axes = {number: _spatial_axes(each) for number, each in enumerate(places)}
    replay, device = replay or Replay(is_used_again=False), leaves[0].device
    summing = Summing(axes, samples_of(places[0]), device, with_magnitudes)
    explained = _Explained(
        forward, leaves, places, gradients, select, summing, replay, RandomState(device)
    )
    while True:
        try:
            decomposed = explained.decomposed()
            recorder = explained.recorder
            is_complete = is_complete_to_rounding(decomposed, recorder.precision)
            # A replay does not see what changes values or gradients without autograd.
            if is_complete or not recorder.is_replayed:
                break
        except torch.OutOfMemoryError:
            # If the operations are recorded, autograd keeps fewer activations.
            if not explained.recorder.is_replayed:
                raise
        replay.give_up()
        explained.before.restore()
    warn_if_unreliable(decomposed, recorder, is_complete)
    return decomposed


@dataclass
class _Explained:
    """The selected output of a network at its inputs.

    The arguments are as in :func:`decompose`; ``before`` is the random state before the call, and
    ``recorder`` is that of the last run of the network.
    """

    forward: Forward
    leaves: tuple[Tensor, ...]
    places: Sequence[Places]
    gradients: Gradients
    select: Select
    summing: Summing
    replay: Replay
    before: RandomState
    recorder: Recorder = field(init=False)

    def decomposed(self) -> RawDecomposition:
        """The decomposition, from a replay of the forward pass or from a record of it."""
        selected: Tensor | None = None
        self.recorder = Recorder(self.leaves, self.places, self.summing)

        def traced(*arguments: Any) -> Tensor:
            nonlocal selected
            selected = self._selected(arguments)
            return selected

        try:
            with (
                compiled_models_run_eagerly(),
                # A checkpointed block with a hidden operation saves other tensors when it runs
                # again. torch raises an error for that at its end, which it must reach.
                set_checkpoint_early_stop(False),
                torch.inference_mode(False),
            ):
                try:
                    gradients = self.gradients(traced, self.leaves)
                except RuntimeError as error:
                    if selected is not None:
                        refuse_unused_inputs(selected, self.leaves)
                    refuse_known_errors(error)
                    raise
            assert selected is not None
            # Terms that waited may differentiate, which inference mode would not allow.
            with torch.inference_mode(False), torch.no_grad(), without_autocast(self.leaves[0]):
                return self._result(gradients, self.recorder.terms(), selected)
        finally:
            self.recorder.release()

    def _selected(self, arguments: tuple[Any, ...]) -> Tensor:
        """Runs the network so that the recorder has its terms."""
        replayable = self.replay.pass_of(self.forward, self.leaves, self.places)
        output = self.replay.run(self.forward, replayable, arguments, self.recorder, self.before)
        if not self.recorder.is_replayed:
            output = self._recorded(arguments)
            if replayable and self.before.is_current():
                self.replay.keep(replayable, output, self.recorder)
            samples, rank = self.summing.samples, self.leaves[0].dim()
            refuse_other_order(output, samples, rank, self.recorder.pending)
        selected: Tensor = self.select(output)
        if not self.recorder.is_random and not self.before.is_current():
            further = arguments[len(self.leaves) :]
            self.recorder.is_random = self._uses_random_numbers(further, selected)
        return selected

    def _recorded(self, arguments: tuple[Any, ...]) -> Any:
        """The output of the network, with its operations recorded.

        It runs again if an optimization has made its terms wrong: folding, or freeing results.
        """
        count, replay = len(self.leaves), self.replay
        while True:
            self.recorder.release()
            trace = Trace(self.leaves, self.places, self.summing, replay.folds_norms)
            recorder = self.recorder = trace.recorder
            visible = recorder.hidden.visible
            visible.are_kept = replay.keeps_results
            followed, output = trace.follow(arguments[:count]), None
            try:
                with trace:
                    output = self.forward(*followed, *own_containers(arguments[count:]))
                recorder.finish(output)
            except Exception:
                if not trace.folded_norms.were_read_between:
                    raise
            if trace.folded_norms.were_read_between:
                replay.folds_norms = False
            elif visible.has_read_freed and not visible.are_kept:
                replay.keeps_results = True
            else:
                return output
            self.before.restore()

    def _uses_random_numbers(self, further: tuple[Any, ...], selected: Tensor) -> bool:
        """Whether other runs have other outputs; some networks draw numbers that they do not use.

        The output of a recorded run may differ from that of others by rounding.
        """

        def run() -> Tensor:
            # Copies, because the network may overwrite them.
            return self.select(
                self.forward(*map(torch.clone, self.leaves), *own_containers(further))
            )

        with RandomState(self.leaves[0].device), KeptStatistics():
            other = run()
            return not torch.equal(selected, other) and not torch.equal(other, run())

    def _result(
        self, gradients: Sequence[Tensor], terms: Sequence[PendingTerm], selected: Tensor
    ) -> RawDecomposition:
        # A copy, because a view would keep all outputs in memory.
        output = in_full_precision(selected.detach().to(self.leaves[0].device, copy=True))
        contributions, sums = [], []
        summing = replace(self.summing, with_magnitudes=False)
        for leaf, places, gradient in zip(self.leaves, self.places, gradients, strict=True):
            if gradient._is_zerotensor():  # without memory, as the gradient of ``sgn``
                gradient = gradient.clone()
            contribution = in_full_precision(gradient) * in_full_precision(leaf.detach())
            sums.append(summing.sums_of_elements(contribution, places))
            contributions.append(contribution)
        of_inputs = sorted(stacked_maps(sums), key=lambda stack: stack.number)
        of_biases = stacked_maps([term.sums for term in terms if term.sums is not None])
        scores = scores_of(of_inputs)
        if of_biases:
            scores = torch.cat([scores, scores_of(of_biases)])
        return RawDecomposition(
            output=output,
            scores=scores,
            delta=output - scores.sum(0),
            of_inputs=tuple(of_inputs),
            of_biases=of_biases,
            contributions=tuple(contributions),
            reductions=[each.by_input[number].to_cells for number, each in enumerate(sums)],
            terms=terms,
            axes=summing.axes,
        )


def _spatial_axes(places: Places) -> list[Axis]:
    """The spatial axes of an input; if a layer has places on several inputs, of the first one."""
    axes = [axis for axis in places.coordinates if axis.is_spatial]
    first = min((axis.input for axis in axes), default=0)
    return sorted((axis for axis in axes if axis.input == first), key=lambda axis: axis.dim)


def _leaf(tensor: Tensor) -> Tensor:
    """A leaf tensor that requires a gradient and shares the memory of the input."""
    with torch.inference_mode(False):
        plain: Tensor = usable_in_backward(tensor)
        return plain.detach().requires_grad_()
