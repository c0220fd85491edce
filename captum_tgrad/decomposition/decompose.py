"""Decomposes ``f(x)`` into a sum of terms in one forward and one backward pass (eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from captum_tgrad._support.warn import warn_user
from captum_tgrad.decomposition.bias import ElementBias
from captum_tgrad.decomposition.decomposed import Decomposed
from captum_tgrad.decomposition.eager import compiled_models_run_eagerly, uncompiled
from captum_tgrad.decomposition.inference_tensors import (
    refuse_inference_tensors,
    usable_in_backward,
)
from captum_tgrad.decomposition.maps import Summing
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, depending_on, input_places, samples_of
from captum_tgrad.decomposition.places.reduction import reduction
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast
from captum_tgrad.decomposition.random_state import RandomState
from captum_tgrad.decomposition.replay import Replay
from captum_tgrad.decomposition.saved_tensors import checkpoints_run_fully
from captum_tgrad.decomposition.scratch import Scratch
from captum_tgrad.decomposition.stacks import scores_of, stacked
from captum_tgrad.decomposition.term import TermMap
from captum_tgrad.decomposition.trace import Trace

Forward = Callable[..., Any]
Gradients = Callable[[Forward, tuple[Tensor, ...]], Sequence[Tensor]]
Select = Callable[[Any], Tensor]

WARNED_SHARE = 0.01
"""The share of the sum of |score| that may lose its places without a warning."""


def decompose(
    forward: Forward,
    inputs: Sequence[Tensor],
    gradients: Gradients,
    select: Select,
    *,
    given: Sequence[Places] | None = None,
    with_magnitudes: bool = False,
    replay: Replay | None = None,
) -> Decomposed:
    """Decomposes the selected output of ``forward`` at ``inputs``.

    Args:
        forward: The network: any callable whose first arguments are the inputs.
        inputs: Floating-point tensors, batch dimension first. They are not changed.
        gradients: Takes a forward function and leaf tensors. Runs the function and returns the
            gradients of its selected output, summed over samples, at the tensors.
        select: Takes the result of ``forward`` and returns the output to explain, shape ``(N,)``.
        given: The places of each input's elements. None: dimension 0 holds samples, dimension 1
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
        UserWarning: The terms do not add up to the output, a term is only rounding error, or an
            operation loses the places of its input.
    """
    forward = uncompiled(forward)
    leaves = tuple(_leaf(tensor) for tensor in inputs)
    given = given or [input_places(leaf.shape, number) for number, leaf in enumerate(leaves)]
    if len(leaves) > 1:
        given = [depending_on(each, [number]) for number, each in enumerate(given)]
    axes = {number: _spatial_axes(each) for number, each in enumerate(given)}
    summing = Summing(axes, samples_of(given[0]), leaves[0].device, with_magnitudes)
    trace = Trace(leaves, given, summing)
    replay = replay or Replay()
    replayable = replay.pass_of(forward, leaves, given)
    outputs: list[Tensor] = []
    selected: Tensor | None = None

    def traced(*arguments: Any) -> Any:
        nonlocal selected
        output = replay.output(replayable, arguments, trace.recorder)
        if output is None:
            followed = trace.follow(arguments[: len(leaves)])
            random_state = replayable and RandomState(replayable.device)
            with trace:
                output = forward(*followed, *arguments[len(leaves) :])
            trace.recorder.finish(output)
            if replayable and random_state and random_state.is_current():
                replay.keep(replayable, output, trace.recorder)
            _require_order(output, summing.samples, leaves[0].dim())
        selected = select(output)
        # Copies, because a view would keep all outputs in memory.
        outputs.append(selected.detach().to(leaves[0].device, copy=True))
        return output

    try:
        with compiled_models_run_eagerly(), checkpoints_run_fully(), torch.inference_mode(False):
            try:
                input_gradients = gradients(traced, leaves)
            except RuntimeError as error:
                refuse_inference_tensors(error)
                if selected is not None:
                    _require_all_used(trace.sources_of(selected), len(leaves))
                _raise_explained(error)
                raise
        with torch.no_grad(), without_autocast(leaves[0]):
            terms = trace.recorder.terms()
    finally:
        trace.release()

    with torch.no_grad(), without_autocast(leaves[0]):
        decomposed = _decomposed(leaves, given, summing, input_gradients, terms, outputs[-1])
    _check(decomposed, trace.recorder.precision)
    if trace.recorder.channels_as_places is not None:
        _warn_of_channels(*trace.recorder.channels_as_places, len(leaves))
    return decomposed


def _spatial_axes(given: Places) -> list[Axis]:
    """The spatial axes of an input; if a layer has places on several inputs, of the first one."""
    axes = [axis for axis in given.claims if axis.is_spatial]
    first = min((axis.input for axis in axes), default=0)
    return sorted((axis for axis in axes if axis.input == first), key=lambda axis: axis.dim)


def _require_order(output: Any, samples: int, rank: int) -> None:
    """Raises ValueError if row ``i`` of an output does not belong to sample ``i``.

    ``rank`` is the number of dimensions of the first input.
    """
    given = places_of(output) if isinstance(output, Tensor) else None
    if given is None or samples == 1 or given.shape[:1] != (samples,):
        return
    rows = [claim.index.reshape(len(claim.index), -1) for claim in given.samples]
    in_order = torch.arange(1, samples + 1, device="cpu")
    if len(rows) != 1 or rows[0].shape[1] != 1 or not torch.equal(rows[0][:, 0], in_order):
        raise ValueError(
            "forward_func mixes the samples of the batch, returns them in another order, or has an"
            " operation that hides which sample is which, such as a custom autograd.Function or a"
            " scripted module. Explain them one at a time, in batches of 1."
            + (" If inputs is a single sample, pass inputs.unsqueeze(0)." if rank == 1 else "")
        )


class UnusedInputError(ValueError):
    """The output does not depend on an input.

    Args:
        number: The number of the input.
        count: The number of inputs.
    """

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        argument = "inputs" if count == 1 else f"inputs[{number}]"
        super().__init__(
            f"The explained output does not depend on {argument}, so that there is no gradient with"
            " respect to it. Leave it out; constants belong in additional_forward_args."
        )


def _require_all_used(used: set[int], count: int) -> None:
    for number in range(count):
        if number not in used:
            raise UnusedInputError(number, count) from None


def _raise_explained(error: RuntimeError) -> None:
    """Raises a ValueError that says what to do, for known errors of torch."""
    if "use_reentrant=True" in str(error):
        raise ValueError(
            "forward_func uses reentrant activation checkpointing, which torch cannot differentiate"
            " with respect to an input. Call checkpoint(..., use_reentrant=False), or disable"
            " checkpointing to explain the model."
        ) from error
    if isinstance(error, CheckpointError):
        raise ValueError(
            "forward_func has an operation that the trace cannot see, such as a scripted module or"
            " a custom autograd.Function, inside of activation checkpointing. Disable checkpointing"
            " to explain the model."
        ) from error
    if "appears to not have been used in the graph" in str(error):
        raise ValueError(
            "The output of forward_func has no gradient with respect to inputs: the backward pass"
            " of an operation between them returns none, as in quantized models. Explain the model"
            " in floating point."
        ) from error


def _leaf(tensor: Tensor) -> Tensor:
    """A leaf tensor that requires a gradient and shares the memory of the input."""
    with torch.inference_mode(False):
        plain: Tensor = usable_in_backward(tensor)
        return plain.detach().requires_grad_()


def _decomposed(
    leaves: tuple[Tensor, ...],
    given: Sequence[Places],
    summing: Summing,
    gradients: Sequence[Tensor],
    terms: Sequence[PendingTerm],
    output: Tensor,
) -> Decomposed:
    output = in_full_precision(output)
    contributions, reduced, scratch = [], [], Scratch(0)
    for leaf, leaf_places, gradient in zip(leaves, given, gradients, strict=True):
        contribution = in_full_precision(gradient) * in_full_precision(leaf.detach())
        unit_bias = ElementBias(partial(contribution.new_ones, ()))
        without_magnitudes = Summing(summing.axes, summing.samples, summing.device)
        reduced.append(without_magnitudes.reduced(contribution, unit_bias, leaf_places, scratch))
        contributions.append(contribution)
    of_inputs = sorted(stacked(reduced), key=lambda stack: stack.number)
    biases = stacked([term.reduced for term in terms if term.reduced is not None])
    scores = [*scores_of(of_inputs), *scores_of(biases)]
    reductions = [
        reduction(leaf_places, summing.axes[number], summing.samples)
        for number, leaf_places in enumerate(given)
    ]
    return Decomposed(
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


def _check(decomposed: Decomposed, precision: float) -> None:
    """Warns of an incomplete sum, of terms that are rounding errors, of lost places, and of NaN."""
    delta = decomposed.delta
    sizes = torch.stack(list(decomposed.scores)).abs()
    scale = sizes.sum(0)
    allowed = precision**0.5 * torch.maximum(scale, decomposed.output.abs())
    complete = delta.abs() <= allowed  # false for NaN too
    if not bool(complete.all()):
        # If terms cancel, the sum has the rounding error of their elements, which may be large.
        terms = decomposed.decomposition.terms
        evidence = [torch.stack([*map(_evidence, term.maps.values())]).sum(0) for term in terms]
        rounding = 100 * precision * torch.stack(evidence)
        allowed = torch.maximum(allowed, rounding.sum(0))
        complete = delta.abs() <= allowed
        # Warn of a score that is only rounding error, if the scores of other terms are not.
        is_rounding = (sizes < rounding) & (sizes > WARNED_SHARE * scale)
        is_rounding &= (sizes >= rounding).any(0) & complete
        if bool(is_rounding.any()):
            _warn_of_rounding(terms[int(is_rounding.any(1).nonzero()[0])].name)
    if not bool(complete.all()):
        worst = int((delta.abs() - allowed).nan_to_num(nan=torch.inf).argmax())
        total = float(decomposed.output[worst] - delta[worst])
        warn_user(
            f"Incomplete decomposition: the terms of sample {worst} sum to {total:.3g}, the output"
            f" is {float(decomposed.output[worst]):.3g}. {_likely_cause(decomposed, allowed)}",
        )
    _warn_of_lost(decomposed, sizes[len(decomposed.own) :], scale)
    undefined = sum(int(each.isnan().sum()) for each in decomposed.contributions)
    if undefined and bool(complete.all()):
        warn_user(
            f"The attributions of {undefined} elements of inputs are NaN: the gradient of the"
            " output is NaN there, as at the square root of zero. Add a small constant before such"
            " an operation."
        )


def _evidence(term_map: TermMap) -> Tensor:
    return (term_map.positive + term_map.negative).flatten(1).sum(1)


def _warn_of_rounding(name: str) -> None:
    warn_user(
        f"The map is not reliable: the elements of the term {name!r} are so large that only"
        " rounding is left of their sum. Use float64 or smaller constants, such as -1e4 instead of"
        " -1e9 in an attention mask."
    )


def _warn_of_channels(channels: Axis, place: Axis | None, count: int) -> None:
    name = "inputs" if count == 1 else f"inputs[{channels.input}]"
    warn_user(
        f"forward_func uses dimension {channels.dim} of {name} as positions, but channel_dim says"
        f" that it holds channels: later terms have one value for all {channels.extent} positions."
        f" To tell them apart, pass channel_dim={None if place is None else place.dim}.",
    )


def _warn_of_lost(decomposed: Decomposed, sizes: Tensor, scale: Tensor) -> None:
    lost: dict[str, Tensor] = {}
    for position, each in enumerate(decomposed.terms):
        if at := each.lost_at(decomposed.axes):
            share = sizes[position] / scale.clamp_min(1e-30)
            lost[at] = lost.get(at, torch.zeros_like(share)) + share
    for at, share in lost.items():
        if float(share.max()) > WARNED_SHARE:
            hidden = at.rpartition(":")[2] == "hidden"
            kind = "A hidden operation" if hidden else "An operation"
            module, _, operation = at.rpartition(":")
            warn_user(
                f"{kind} loses the places of its input: {operation!r} in"
                f" {f'the module {module!r}' if module else 'forward_func'}. Terms with"
                f" {float(share.max()):.0%} of the sum of |score| are spread evenly there."
                + (
                    " Scripted modules and custom torch.autograd.Functions are hidden: pass a model"
                    " of plain PyTorch operations to get the places of these terms."
                    if hidden
                    else " Use operations that only move or mix elements instead, such as indexing,"
                    " gather or matmul."
                ),
            )


def _likely_cause(decomposed: Decomposed, allowed: Tensor) -> str:
    """The likely cause of an incomplete decomposition, for the warning."""
    delta = decomposed.delta
    if not bool(decomposed.output.isfinite().all()):
        return (
            "The output is not finite: look for a division by zero, the logarithm of zero, or an"
            " overflow in forward_func."
        )
    if bool(delta.sum().abs() <= allowed.sum()) and len(delta) > 1:
        # The residuals of the samples cancel.
        return (
            "Likely the samples of the batch influence each other: explain them one at a time, in"
            " batches of 1."
        )
    return (
        "Something changed values or gradients without autograd: arithmetic on .data, in-place"
        " operations under torch.no_grad(), or hooks that change a gradient."
    )
