"""Warns of a decomposition that is not reliable: incomplete, or without the positions of terms."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad._support.warn import warn_user
from captum_tgrad.decomposition.places.coordinates import Axis
from captum_tgrad.decomposition.raw_decomposition import RawDecomposition
from captum_tgrad.decomposition.term import TermMap
from captum_tgrad.decomposition.tracing.recorder import Recorder

_WARNED_SHARE = 0.01
"""The share of the sum of |score| that may lose its positions without a warning."""


def is_complete_to_rounding(decomposed: RawDecomposition, precision: float) -> bool:
    """Whether the terms add up to the output.

    ``precision`` is the largest machine epsilon of the dtypes that the network computed in.
    """
    return _is_within(decomposed.delta, _allowed(decomposed, precision))


def _allowed(decomposed: RawDecomposition, precision: float) -> Tensor:
    """The residual of each sample that counts as rounding error."""
    scale = torch.maximum(decomposed.sizes.sum(0), decomposed.output.abs())
    allowed: Tensor = precision**0.5 * scale
    return allowed


def warn_if_unreliable(decomposed: RawDecomposition, recorder: Recorder, is_complete: bool) -> None:
    """Warns of all that may be wrong with a decomposition of a network that the recorder saw.

    ``is_complete`` is the result of :func:`is_complete_to_rounding`.
    """
    if not is_complete:
        rounding = _rounding_errors(decomposed, recorder.precision)
        allowed = torch.maximum(_allowed(decomposed, recorder.precision), rounding.sum(0))
        is_complete = _is_within(decomposed.delta, allowed)
        _warn_of_rounding(decomposed, rounding, allowed)
        if not is_complete:
            _warn_of_residual(decomposed, allowed)
    _warn_of_lost(decomposed)
    undefined = sum(int(each.isnan().sum()) for each in decomposed.contributions)
    if undefined and is_complete:
        warn_user(
            f"The attributions of {undefined} elements of inputs are NaN: the gradient of the"
            " output is NaN there, as at the square root of zero or in a softmax over -inf alone."
            " Add a small constant before such an operation; explain padded samples one at a time,"
            " without padding."
        )
    if recorder.is_random:
        warn_of_random_numbers()
    if recorder.is_overwritten:
        warn_user(
            "forward_func writes to the result of a hidden operation without autograd, as the"
            " adaptive solvers of torchdiffeq do through .data. Terms and maps may be wrong, even"
            " though the terms add up. Use an operation that autograd sees, such as a solver of"
            " fixed steps (method='rk4')."
        )
    if recorder.channels_as_places is not None:
        warn_of_channels(*recorder.channels_as_places, len(decomposed.of_inputs))


def warn_of_random_numbers() -> None:
    """Warns that the map depends on random numbers."""
    warn_user(
        "forward_func draws random numbers, as dropout does in training mode, so the map"
        " differs from call to call. Call model.eval(), or torch.manual_seed before each call."
    )


def warn_of_another_output(
    decomposed: RawDecomposition, output: Tensor, layer: str, precision: float
) -> None:
    """Warns if ``output``, ``(N,)``, is not that of the decomposition, which began at a layer."""
    difference = (decomposed.output - output.to(decomposed.output)).abs()
    excess = (difference - _allowed(decomposed, precision)).nan_to_num()
    worst = int(excess.argmax())
    if float(excess[worst]) > 0:
        warn_user(
            f"The output of sample {worst} is {float(output[worst]):.3g}, but the attributions"
            f" explain {float(decomposed.output[worst]):.3g}, the output if the activation of"
            f" {layer} is replaced with a copy. Probably, an in-place operation changes this"
            " activation and other tensors that share its memory: use inplace=False, or explain"
            " another layer."
        )


def _is_within(delta: Tensor, allowed: Tensor) -> bool:
    return bool(((delta.abs() <= allowed) & delta.isfinite()).all())


def _rounding_errors(decomposed: RawDecomposition, precision: float) -> Tensor:
    """The rounding error of each term, which is large if large elements cancel: ``(terms, N)``."""
    terms = decomposed.decomposition.terms
    evidence = [torch.stack([*map(_evidence, term.maps.values())]).sum(0) for term in terms]
    return 100 * precision * torch.stack(evidence)


def _evidence(term_map: TermMap) -> Tensor:
    return (term_map.positive + term_map.negative).flatten(1).sum(1)


def _warn_of_rounding(decomposed: RawDecomposition, rounding: Tensor, allowed: Tensor) -> None:
    """Warns of a term whose score is only rounding error, if the scores of others are not."""
    sizes = decomposed.sizes
    is_rounding = (sizes < rounding) & (sizes > _WARNED_SHARE * sizes.sum(0))
    is_rounding &= (sizes >= rounding).any(0) & (decomposed.delta.abs() <= allowed)
    if bool(is_rounding.any()):
        name = decomposed.decomposition.terms[int(is_rounding.any(1).nonzero()[0])].name
        warn_user(
            f"The map is not reliable: the elements of the term {name!r} are so large that only"
            " rounding is left of their sum. Use float64 or smaller constants, such as -1e4 instead"
            " of -1e9 in an attention mask."
        )


def _warn_of_residual(decomposed: RawDecomposition, allowed: Tensor) -> None:
    delta, output = decomposed.delta, decomposed.output
    worst = int((delta.abs() - allowed).nan_to_num(nan=torch.inf).argmax())
    if not bool(output.isfinite().all()):
        cause = (
            "The output is not finite: look for a division by zero, the logarithm of zero, or an"
            " overflow in forward_func."
        )
    elif len(delta) > 1 and bool(delta.sum().abs() <= allowed.sum()):
        # The residuals of the samples cancel.
        cause = (
            "The samples of the batch probably influence each other: explain them one at a time, in"
            " batches of 1."
        )
    elif (
        decomposed.terms
        and decomposed.terms[-1].operation == "log_softmax"
        and float(output[worst].abs()) < 1e-3
    ):
        cause = (
            "forward_func ends in a log-softmax, which is so close to 0 that rounding errors"
            " dominate: return the logits, or use float64."
        )
    else:
        cause = (
            "Something changed values or gradients without autograd: arithmetic on .data, in-place"
            " operations under torch.no_grad(), or hooks that change a gradient."
        )
    warn_user(
        f"Incomplete decomposition: the terms of sample {worst} sum to"
        f" {float(output[worst] - delta[worst]):.3g}, the output is {float(output[worst]):.3g}."
        f" {cause}"
    )


def warn_of_channels(channels: Axis, place: Axis | None, count: int) -> None:
    """Warns that a network uses a channel axis of one of ``count`` inputs as positions."""
    name = "inputs" if count == 1 else f"inputs[{channels.input}]"
    warn_user(
        f"forward_func uses dimension {channels.dim} of {name} as positions, but channel_dim says"
        f" that it holds channels: later terms have one value for all {channels.extent} positions."
        f" To tell them apart, pass channel_dim={None if place is None else place.dim}.",
    )


def _warn_of_lost(decomposed: RawDecomposition) -> None:
    """Warns of operations that lost the positions of terms with a large share of the scores."""
    lost: dict[str, list[int]] = {}
    for number, term in enumerate(decomposed.terms, len(decomposed.of_inputs)):
        if at := term.lost_at(decomposed.axes):
            lost.setdefault(at, []).append(number)
    for at, numbers in lost.items():
        scale = decomposed.sizes.sum(0).clamp_min(1e-30)
        share = float((decomposed.sizes[numbers].sum(0) / scale).max())
        if share <= _WARNED_SHARE:
            continue
        module, _, operation = at.rpartition(":")
        if operation == "hidden":
            kind, advice = (
                "A hidden operation",
                "Scripted modules, custom torch.autograd.Functions and transforms such as"
                " torch.vmap are hidden. To keep the positions, use plain PyTorch operations"
                " instead.",
            )
        else:
            kind, advice = (
                "An operation",
                "To keep the positions, use operations that only move or mix elements, such as"
                " indexing, gather or matmul.",
            )
        warn_user(
            f"{kind} loses the positions of its input: {operation!r} in"
            f" {f'the module {module!r}' if module else 'forward_func'}. Terms with"
            f" {share:.0%} of the sum of |score| are spread evenly over the map. {advice}"
        )
