"""``f(x)`` as a sum of terms: one forward pass, one backward pass (the paper's eq. 6)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import map_tensors
from captum_tgrad.decomposition.eager import compiled_models_run_eagerly, uncompiled
from captum_tgrad.decomposition.layout import Layout, input_layout
from captum_tgrad.decomposition.maps import maps_of_contribution
from captum_tgrad.decomposition.plan import plan_of
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
    """
    forward = uncompiled(forward)
    leaves = tuple(_leaf(tensor) for tensor in inputs)
    layouts = layouts or [input_layout(leaf.shape) for leaf in leaves]
    trace = Trace(leaves, layouts, with_magnitudes=with_magnitudes)
    outputs: list[Tensor] = []

    def traced(*arguments: Any) -> Any:
        followed = trace.follow(arguments[: len(leaves)])
        with trace:
            output = forward(*followed, *arguments[len(leaves) :])
        outputs.append(select(output).detach().clone())  # not a view of all outputs
        return output

    try:
        with compiled_models_run_eagerly(), torch.inference_mode(False):
            arrived = gradients(traced, leaves)
        terms = trace.terms()
    finally:
        trace.release()

    with torch.no_grad(), without_autocast(leaves[0]):
        explained = _explained(leaves, layouts, arrived, terms, in_full_precision(outputs[-1]))
    _check(explained.decomposition, trace)
    return explained


def _leaf(tensor: Tensor) -> Tensor:
    """The input as a leaf of its own graph, on the user's memory but not on the user's flags."""
    with torch.inference_mode(False):
        plain: Tensor = usable_in_backward(tensor)
        return plain.detach().requires_grad_()


def usable_in_backward(value: Any) -> Any:
    """``value`` with tensors made under inference_mode copied: only copies can be saved."""
    with torch.inference_mode(False):
        return map_tensors(
            value, lambda tensor: tensor.clone() if tensor.is_inference() else tensor
        )


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
            f" is incomplete. {_likely_cause(trace.hidden)} Operations that hide from the trace are"
            " scripted modules, custom torch.autograd.Functions, nn.DataParallel and arithmetic on"
            " .data.",
            stacklevel=2,
        )


def _likely_cause(hidden: list[str]) -> str:
    """Names the first module that returned what the trace had not seen being made."""
    path = next((path for path in hidden if path), None)
    if path is not None:
        return f"Look at the module {path!r} first: it runs an operation that was not seen."
    return "An operation was not seen." if hidden else "Likely an operation was not seen."
