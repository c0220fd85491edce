"""Refuses models that cannot be decomposed, and says what to do instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.maps.samples import sample_numbers, samples_lost
from captum_tgrad.decomposition.nested import tensors_in
from captum_tgrad.decomposition.pending_terms import PendingTerm
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.tracing.origins import Origins


def refuse_other_order(output: Any, samples: int, rank: int, terms: Iterable[PendingTerm]) -> None:
    """Raises ValueError if row ``i`` of an output does not belong to sample ``i``.

    ``rank`` is that of the first input. ``terms`` are those of the operations that have run.
    """
    places = places_of(output) if isinstance(output, Tensor) else None
    if places is None or samples == 1 or places.shape[:1] != (samples,):
        return
    if sample_numbers(places, samples).flatten().tolist() != list(range(samples)):
        for term in terms if rank > 1 else ():
            if bool((sample_numbers(term.places, samples) < 0).all()):
                raise samples_lost(term.module, term.operation)
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
        argument, advice = "inputs", "Look for detach(), .data or NumPy in the forward pass."
        if count > 1:
            argument = f"inputs[{number}]"
            advice = "Leave it out; constants belong in additional_forward_args."
        super().__init__(
            f"The explained output does not depend on {argument}, so that there is no gradient with"
            f" respect to it. {advice}"
        )


def refuse_unused_inputs(output: Tensor, leaves: Sequence[Tensor]) -> None:
    """Raises UnusedInputError if autograd's graph of an output does not reach one of the inputs."""
    found, seen, waiting = [], set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        found.append(getattr(node, "variable", None))
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    for number, leaf in enumerate(leaves):
        if not any(each is leaf for each in found):
            raise UnusedInputError(number, len(leaves)) from None


def refuse_lost_gradients(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], origins: Origins
) -> None:
    """Raises ValueError if a model takes a gradient at a constant, which the trace detaches.

    ``func(*args, **kwargs)`` is a call of a function of torch that computes gradients.
    """
    of = args[0] if args else kwargs.get("outputs", kwargs.get("tensors"))
    is_grad = func is torch.autograd.grad
    at = args[1] if is_grad and len(args) > 1 else kwargs.get("inputs")
    if all(origins.of(tensor) is None for tensor in tensors_in(of)):
        return  # a graph of constants, which the trace leaves unchanged
    if at is None or any(origins.of(tensor) is None for tensor in tensors_in(at)):
        raise ValueError(
            "forward_func takes a gradient of something that depends on inputs with respect to"
            " something that does not, such as a parameter. The decomposition cannot follow that."
            " Compute the gradient outside, and pass it in additional_forward_args."
        )


def refuse_known_errors(error: RuntimeError) -> None:
    """Raises ValueError for an error of torch that is about a known limit."""
    text = f"{type(error).__name__}: {error}"
    for sign, advice in _KNOWN_ERRORS.items():
        if sign in text:
            raise ValueError(advice) from error


_KNOWN_ERRORS = {
    "nference tensor": (
        "forward_func uses tensors that were made under torch.inference_mode, which autograd"
        " cannot save: parameters or buffers of a model that was built or loaded under it, or"
        " outputs of a part of the model that runs under it. Build the model outside of it, or"
        " pass copy.deepcopy(model), made outside of it; run parts under torch.no_grad()."
    ),
    "use_reentrant=True": (
        "forward_func uses reentrant activation checkpointing, which torch cannot differentiate"
        " with respect to an input. Call checkpoint(..., use_reentrant=False), or disable"
        " checkpointing to explain the model."
    ),
    "CheckpointError": (
        "forward_func has an operation that the trace cannot see, such as a scripted module or"
        " a custom autograd.Function, inside of activation checkpointing. Disable checkpointing"
        " to explain the model."
    ),
    "appears to not have been used in the graph": (
        "The output of forward_func has no gradient with respect to inputs: the backward pass"
        " of an operation between them returns none, as in quantized models, or a hook takes a"
        " gradient at a constant, as in some deep equilibrium models. Explain the model in"
        " floating point, or write its own backward pass as a torch.autograd.Function."
    ),
}
"""What to do, by a part of torch's message or the name of its error."""
