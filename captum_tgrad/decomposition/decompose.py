"""Decomposes ``f(x)`` into a sum of terms in one forward and one backward pass (eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.accelerator import forked_random_state
from captum_tgrad.decomposition.checkpointing import checkpoints_run_fully
from captum_tgrad.decomposition.hidden.hidden_operations import FreedResultsError
from captum_tgrad.decomposition.maps.reduction import reduction
from captum_tgrad.decomposition.maps.stacks import scores_of, stacked_maps
from captum_tgrad.decomposition.maps.summing import Summing
from captum_tgrad.decomposition.nested import usable_in_backward
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.places import Places, depending_on, input_places, samples_of
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast
from captum_tgrad.decomposition.random_state import RandomState
from captum_tgrad.decomposition.raw_decomposition import RawDecomposition
from captum_tgrad.decomposition.refusals import (
    refuse_known_errors,
    refuse_other_order,
    refuse_unused_inputs,
)
from captum_tgrad.decomposition.reliability import (
    is_complete_to_rounding,
    warn_if_unreliable,
    warn_of_channels,
    warn_of_overwritten,
    warn_of_randomness,
)
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
    places: Sequence[Places] | None = None,
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
        places: The places of each input's elements. None: dimension 0 holds samples, dimension 1
            channels, and the others positions.
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
    places = places or [input_places(leaf.shape, number) for number, leaf in enumerate(leaves)]
    if len(leaves) > 1:
        places = [depending_on(each, [number]) for number, each in enumerate(places)]
    axes = {number: _spatial_axes(each) for number, each in enumerate(places)}
    summing = Summing(axes, samples_of(places[0]), leaves[0].device, with_magnitudes)
    replay = replay or Replay(is_used_again=False)
    run = partial(_decompose, forward, leaves, places, gradients, select, summing, replay)
    keeps_results = False
    while True:
        try:
            decomposed, recorder = run(keeps_results)
            # A replay does not see all constants, such as the value of a padding.
            if not replay.has_run or is_complete_to_rounding(decomposed, recorder.precision):
                break
            replay.give_up()
        except torch.OutOfMemoryError:
            # If the operations are recorded, autograd keeps fewer activations.
            if not replay.give_up():
                raise
        except FreedResultsError:
            keeps_results = True
        finally:
            replay.release()
    warn_if_unreliable(decomposed, recorder.precision)
    if recorder.is_random:
        warn_of_randomness()
    if recorder.is_overwritten:
        warn_of_overwritten()
    if recorder.channels_as_places is not None:
        warn_of_channels(*recorder.channels_as_places, len(leaves))
    return decomposed


def _decompose(
    forward: Forward,
    leaves: tuple[Tensor, ...],
    places: Sequence[Places],
    gradients: Gradients,
    select: Select,
    summing: Summing,
    replay: Replay,
    keeps_results: bool,
) -> tuple[RawDecomposition, Recorder]:
    trace = Trace(leaves, places, summing)
    trace.recorder.hidden.keeps_results = keeps_results
    replayable = replay.pass_of(forward, leaves, places)
    outputs: list[Tensor] = []
    selected: Tensor | None = None

    def traced(*arguments: Any) -> Any:
        nonlocal selected
        has_drawn = False
        output = replay.run(replayable, arguments, trace.recorder)
        if output is None:
            followed = trace.follow(arguments[: len(leaves)])
            random_state = RandomState(leaves[0].device)
            with trace:
                output = forward(*followed, *arguments[len(leaves) :])
            trace.recorder.finish(output)
            if trace.recorder.hidden.has_read_freed and not keeps_results:
                random_state.restore()
                raise FreedResultsError
            has_drawn = not random_state.is_current()
            if replayable and not has_drawn:
                replay.keep(replayable, output, trace.recorder)
            refuse_other_order(output, summing.samples, leaves[0].dim(), trace.recorder.pending)
        selected = select(output)
        if has_drawn and not trace.recorder.is_random:
            trace.recorder.is_random = _uses_random_numbers(
                # Copies, because the network may overwrite them.
                lambda: select(forward(*map(torch.clone, leaves), *arguments[len(leaves) :])),
                selected,
                leaves[0].device,
            )
        # Copies, because a view would keep all outputs in memory.
        outputs.append(selected.detach().to(leaves[0].device, copy=True))
        return selected

    try:
        with compiled_models_run_eagerly(), checkpoints_run_fully(), torch.inference_mode(False):
            try:
                input_gradients = gradients(traced, leaves)
            except RuntimeError as error:
                if selected is not None:
                    refuse_unused_inputs(selected, leaves)
                refuse_known_errors(error)
                raise
        with torch.no_grad(), without_autocast(leaves[0]):
            terms = trace.recorder.terms()
    finally:
        trace.release()

    with torch.no_grad(), without_autocast(leaves[0]):
        decomposed = _decomposed(leaves, places, summing, input_gradients, terms, outputs[-1])
    return decomposed, trace.recorder


def _uses_random_numbers(run: Callable[[], Tensor], output: Tensor, device: torch.device) -> bool:
    """Whether other runs have other outputs; some networks draw numbers that they do not use.

    The output of a recorded run may differ from that of others by rounding.
    """
    with forked_random_state(device):
        other = run()
        return not torch.equal(output, other) and not torch.equal(other, run())


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


def _decomposed(
    leaves: tuple[Tensor, ...],
    places: Sequence[Places],
    summing: Summing,
    gradients: Sequence[Tensor],
    terms: Sequence[PendingTerm],
    output: Tensor,
) -> RawDecomposition:
    output = in_full_precision(output)
    contributions, sums = [], []
    without_magnitudes = replace(summing, with_magnitudes=False)
    for leaf, leaf_places, gradient in zip(leaves, places, gradients, strict=True):
        contribution = in_full_precision(gradient) * in_full_precision(leaf.detach())
        sums.append(without_magnitudes.sums_of_elements(contribution, leaf_places))
        contributions.append(contribution)
    of_inputs = sorted(stacked_maps(sums), key=lambda stack: stack.number)
    biases = stacked_maps([term.sums for term in terms if term.sums is not None])
    scores = [*scores_of(of_inputs), *scores_of(biases)]
    reductions = [
        reduction(leaf_places, summing.axes[number], summing.samples)
        for number, leaf_places in enumerate(places)
    ]
    return RawDecomposition(
        output=output,
        scores=scores,
        delta=output - torch.stack(scores).sum(0),
        own=tuple(of_inputs),
        biases=biases,
        contributions=tuple(contributions),
        reductions=tuple(reductions),
        terms=terms,
        axes=summing.axes,
    )
