"""``f(x)`` as a sum of terms: one forward pass, one backward pass (the paper's eq. 6)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.eager import compiled_models_run_eagerly, uncompiled
from captum_tgrad.decomposition.inference_tensors import usable_in_backward
from captum_tgrad.decomposition.layouts.layout import Layout, input_layout
from captum_tgrad.decomposition.layouts.plan import plan_of
from captum_tgrad.decomposition.maps import maps_of_contribution
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast
from captum_tgrad.decomposition.terms import Decomposition, Term
from captum_tgrad.decomposition.trace import Trace

Forward = Callable[..., Any]
Gradients = Callable[[Forward, tuple[Tensor, ...]], Sequence[Tensor]]
Select = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Explained:
    """A decomposition together with what its input terms look like channel by channel.

    Args:
        decomposition: The sum of terms.
        contributions: ``df/dx * x`` for each input, in the shape of that input.
    """

    decomposition: Decomposition
    contributions: tuple[Tensor, ...]


def decompose(
    forward: Forward,
    inputs: Sequence[Tensor],
    gradients: Gradients,
    select: Select,
    *,
    layouts: Sequence[Layout] | None = None,
    with_magnitudes: bool = False,
) -> Explained:
    """Decomposes the selected output of ``forward`` at ``inputs``.

    Args:
        forward: The network: any callable whose first arguments are the inputs.
        inputs: Floating-point tensors, samples first; they are not touched.
        gradients: Runs a forward function on leaf tensors and returns the gradients of its
            selected output, summed over samples, with respect to them.
        select: Selects from what ``forward`` returned the output to explain, shape ``(N,)``.
        layouts: Where the elements of each input are; samples, channels, then space if None.
        with_magnitudes: Whether to find the range of each bias term's elements, too.

    Returns:
        The decomposition and the inputs' contributions.

    Raises:
        ValueError: The output does not depend on one of the inputs, or a batch norm is in training
            mode, or the samples of the batch cannot be told apart.

    Warns:
        UserWarning: The terms do not add up to the output.
    """
    forward = uncompiled(forward)
    leaves = tuple(_leaf(tensor) for tensor in inputs)
    layouts = layouts or [input_layout(leaf.shape) for leaf in leaves]
    trace = Trace(leaves, layouts, with_magnitudes=with_magnitudes)
    outputs: list[Tensor] = []
    selected: Tensor | None = None

    def traced(*arguments: Any) -> Any:
        nonlocal selected
        followed = trace.follow(arguments[: len(leaves)])
        with trace:
            output = forward(*followed, *arguments[len(leaves) :])
        selected = select(output)
        outputs.append(selected.detach().to(leaves[0].device, copy=True))  # no view of all outputs
        return output

    try:
        with compiled_models_run_eagerly(), torch.inference_mode(False):
            try:
                arrived = gradients(traced, leaves)
            except RuntimeError:
                if selected is not None:
                    _require_all_used(trace.sources_of(selected), len(leaves))
                raise
        terms = trace.terms()
    finally:
        trace.release()

    with torch.no_grad(), without_autocast(leaves[0]):
        explained = _explained(leaves, layouts, arrived, terms, in_full_precision(outputs[-1]))
    _check(explained.decomposition, trace)
    return explained


def _require_all_used(used: set[int], count: int) -> None:
    unused = [number for number in range(count) if number not in used]
    if unused:
        argument = "inputs" if count == 1 else f"inputs[{unused[0]}]"
        raise ValueError(
            f"{argument} does not reach the explained output, which has no gradient with respect"
            " to it. Leave it out; what is to be held constant belongs in additional_forward_args."
        ) from None


def _leaf(tensor: Tensor) -> Tensor:
    """The input as a leaf of its own graph, on the user's memory but not on the user's flags."""
    with torch.inference_mode(False):
        plain: Tensor = usable_in_backward(tensor)
        return plain.detach().requires_grad_()


def _explained(
    leaves: tuple[Tensor, ...],
    layouts: Sequence[Layout],
    gradients: Sequence[Tensor],
    biases: list[Term],
    output: Tensor,
) -> Explained:
    contributions, input_terms = [], []
    for number, (leaf, layout, gradient) in enumerate(zip(leaves, layouts, gradients, strict=True)):
        contribution = in_full_precision(gradient) * in_full_precision(leaf.detach())
        maps = maps_of_contribution(contribution, layout, plan_of(layout).samples)
        name = "input" if len(leaves) == 1 else f"input {number}"
        input_terms.append(Term(name, maps.positive, maps.negative, maps.score, (number,)))
        contributions.append(contribution)
    delta = output - sum(term.score for term in [*input_terms, *biases])
    decomposition = Decomposition(
        output=output,
        input=input_terms[0] if len(input_terms) == 1 else tuple(input_terms),
        biases=biases,
        delta=delta,
    )
    return Explained(decomposition, tuple(contributions))


def _check(decomposition: Decomposition, trace: Trace) -> None:
    """Warns if the terms do not add up to the output: something was hidden from the trace."""
    delta = decomposition.delta
    scale = torch.stack([term.score.abs() for term in decomposition.terms]).sum(0)
    allowed = trace.precision**0.5 * torch.maximum(scale, decomposition.output.abs())
    complete = delta.abs() <= allowed  # false for NaN too
    if not bool(complete.all()):
        worst = int((delta.abs() - allowed).nan_to_num(nan=torch.inf).argmax())
        warnings.warn(
            f"The terms leave {float(delta[worst]):.3g} of the output"
            f" {float(decomposition.output[worst]):.3g} of sample {worst} unexplained, so the map"
            f" is incomplete. {_likely_cause(decomposition, allowed, trace.hidden)}",
            stacklevel=2,
        )


def _likely_cause(decomposition: Decomposition, allowed: Tensor, hidden: list[str]) -> str:
    """Names what mixes the samples, or the first module that returned what was not seen."""
    if not hidden and bool(decomposition.delta.sum().abs() <= allowed.sum()):
        # What one sample lacks, another has too much.
        return (
            "Likely the samples of the batch influence each other: explain them one at a time, in"
            " batches of 1."
        )
    path = next((path for path in hidden if path), None)
    cause = "An operation was not seen." if hidden else "Likely an operation was not seen."
    if path is not None:
        cause = f"Look at the module {path!r} first: it runs an operation that was not seen."
    return (
        f"{cause} Operations that hide from the trace are scripted modules, custom"
        " torch.autograd.Functions, nn.DataParallel and arithmetic on .data."
    )
