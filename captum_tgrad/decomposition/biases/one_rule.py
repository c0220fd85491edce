"""The one rule that holds for every differentiable operation: ``b = y - D op(z)[z]``.

The directional derivative comes from forward-mode differentiation or, for operations that have
none, from differentiating the backward pass once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from captum_tgrad.decomposition.biases.bias import ElementBias
from captum_tgrad.decomposition.call import Call, map_tensors, tensors_in


def bias_from_rule(call: Call, outputs: list[Tensor], draws: RandomState) -> list[ElementBias]:
    """``b`` of each differentiable output of a call.

    Args:
        call: The call, its tensor arguments as they were before it ran.
        outputs: The real and complex tensors that it returned.
        draws: The random state before it ran, so that dropout drops the same units again.

    Returns:
        One bias for each of ``outputs``.
    """
    with draws.again():
        derivatives = _directional_derivative(call)
    return [
        ElementBias(_unexplained, output, derivative)
        for output, derivative in zip(outputs, derivatives, strict=True)
    ]


def _unexplained(output: Tensor, derivative: Tensor) -> Tensor:
    return torch.where(output.isinf(), 0, output - derivative)  # what is infinite is masked


class RandomState:
    """The state of the generators at one moment, to draw the same numbers once more."""

    def __init__(self, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(each) for each in self._devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """A context that draws from this state and leaves the generators as they were."""
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def _directional_derivative(call: Call) -> list[Tensor]:
    point = tuple(tensor.detach() for tensor in call.dependent)
    # What is infinite has been masked: it counts as a constant.
    direction = tuple(torch.where(tensor.isfinite(), tensor, 0) for tensor in point)
    depends = {id(tensor) for tensor in call.dependent}

    def op(*inputs: Tensor) -> tuple[Tensor, ...]:
        remaining = iter(inputs)
        # Constants are copied: a normalisation may update its running statistics in them.
        args, kwargs = map_tensors(
            (call.args, call.kwargs),
            lambda tensor: next(remaining) if id(tensor) in depends else tensor.clone(),
        )
        if call.in_place:
            args = (args[0].clone(), *args[1:])
        result = call.func(*args, **kwargs)
        result = args[0] if result is None else result
        return tuple(
            tensor
            for tensor in tensors_in(result)
            if tensor.is_floating_point() or tensor.is_complex()
        )

    # Fused attention has neither a forward-mode derivative nor a second one; its formula has both.
    with sdpa_kernel(SDPBackend.MATH):
        try:
            derivatives = torch.func.jvp(op, point, direction)[1]
        except (NotImplementedError, RuntimeError):
            derivatives = _derivative_by_double_backward(op, point, direction)
    return [derivative.detach() for derivative in derivatives]


def _derivative_by_double_backward(
    op: object, point: tuple[Tensor, ...], direction: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    _, derivatives = torch.autograd.functional.jvp(op, point, direction)  # type: ignore[no-untyped-call]
    return tuple(derivatives)
