"""The one rule: computes the bias of any differentiable operation, ``b = y - D op(z)[z]``.

``D op(z)[z]`` is the directional derivative at the input ``z`` along ``z``. It is computed in
forward mode or, for operations without a forward-mode formula, by two backward passes. Some
forward-mode formulas silently return zero, so the result is compared with a backward pass, once for
each operation and the shapes and types of its arguments.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import lru_cache

import torch
from torch import Tensor

from captum_tgrad._support.random_state import RandomState, lock
from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.precision import in_double_precision

Op = Callable[..., tuple[Tensor, ...]]
Tensors = tuple[Tensor, ...]

_ways: dict[object, str] = {}


class NoDerivativeError(Exception):
    """The directional derivative of an operation is missing, or contradicts its backward pass."""


def bias_from_rule(
    call: Call, outputs: list[Tensor], random_state: RandomState | None
) -> list[Bias | None]:
    """The bias of each differentiable output of a call.

    Args:
        call: The call, with its tensor arguments as they were before it ran.
        outputs: The real and complex tensors that it returned.
        random_state: The random state before it ran, so that dropout drops the same units again.

    Returns:
        One bias for each of ``outputs``, or None if the operation is linear.

    Raises:
        NoDerivativeError: The rule cannot be applied.
    """
    with lock:
        derivatives = _directional_derivative(call, random_state)
    if derivatives is None:
        return [None] * len(outputs)
    return [
        Bias(_difference, output, derivative)
        for output, derivative in zip(outputs, derivatives, strict=True)
    ]


def _difference(output: Tensor, derivative: Tensor) -> Tensor:
    return torch.where(output.isinf(), 0, output - derivative)  # infinite elements are masked


def _directional_derivative(call: Call, random_state: RandomState | None) -> Tensors | None:
    point = tuple(tensor.detach() for tensor in call.dependent)
    # Infinite elements come from masks. They count as constants, so their direction is 0.
    direction = tuple(torch.where(tensor.isfinite(), tensor, 0) for tensor in point)
    op = _as_function(call, random_state)
    key = _key_of(call)
    way, found = _ways.get(key), None
    if way in _WAYS:
        derivatives = _WAYS[way](op, point, direction)
        if not any(bool(each.isnan().any()) for each in derivatives):
            return derivatives
    if way not in ("linear", "none"):
        way, found = _find_way(op, point, direction)
        if len(_ways) > 4096:
            _ways.clear()
        _ways.setdefault(key, way)
    if way == "none":
        raise NoDerivativeError
    return found


def _key_of(call: Call) -> object:
    args, kwargs = map_tensors(
        (call.args, call.kwargs), lambda t: (tuple(t.shape), t.dtype, t.requires_grad)
    )
    return (call.func, repr(args), repr(kwargs))


def _as_function(call: Call, random_state: RandomState | None) -> Op:
    depends = {id(tensor) for tensor in call.dependent}

    def op(*inputs: Tensor) -> Tensors:
        remaining = iter(inputs)
        with random_state.replayed() if random_state is not None else nullcontext():
            # Constants are copied, because a normalization may update its running statistics.
            found = call.run_on(lambda t: next(remaining) if id(t) in depends else t.clone())
        return tuple(t for t in found if t.is_floating_point() or t.is_complex())

    return op


@lru_cache
def _load_formulas() -> None:
    """Imports torch's forward-mode formulas without its deprecation warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def _forward_mode(op: Op, point: Tensors, direction: Tensors) -> Tensors:
    _load_formulas()
    derivatives = torch.func.jvp(op, point, direction)[1]
    # A derivative that is always 0 has no memory until it is copied.
    return tuple([each.clone() if each._is_zerotensor() else each for each in derivatives])


def _double_backward(op: Op, point: Tensors, direction: Tensors) -> Tensors:
    _, derivatives = torch.autograd.functional.jvp(op, point, direction)  # type: ignore[no-untyped-call]
    return tuple(derivatives)


_WAYS: dict[str, Callable[[Op, Tensors, Tensors], Tensors]] = {
    "forward mode": _forward_mode,
    "double backward": _double_backward,
}


def _find_way(op: Op, point: Tensors, direction: Tensors) -> tuple[str, Tensors | None]:
    """Finds a way to differentiate that agrees with a backward pass on ``<probes, D op(z)[z]>``.

    Returns a key of ``_WAYS`` and the derivatives; ``"linear"`` and None if ``D op(z)[z] = op(z)``;
    ``"none"`` and None if torch has no derivative, or returns zero. Raises NoDerivativeError if
    those of torch do not agree; at other values, they may.
    """
    with torch.enable_grad():
        leaves = tuple(tensor.clone().requires_grad_() for tensor in point)
        outputs = [output for output in op(*leaves) if output.requires_grad]
        generator = torch.Generator().manual_seed(0)
        probes = [
            torch.randn(output.shape, generator=generator, dtype=torch.float64, device="cpu")
            .to(output)
            .where(output.isfinite(), 0)
            for output in outputs
        ]
        try:
            # With the probes as `grad_outputs`, torch would import sympy, which takes seconds.
            products = [(v.conj() * y).real.sum() for v, y in zip(probes, outputs, strict=True)]
            gradients = torch.autograd.grad(products, leaves, allow_unused=True)
        except (RuntimeError, NotImplementedError):
            raise NoDerivativeError from None
    expected, size = _product(gradients, direction)
    precision = max(torch.finfo(tensor.dtype).eps for tensor in (*outputs, *point)) ** 0.5

    def agrees(derivatives: list[Tensor]) -> bool:
        total, scale = _product(probes, derivatives)
        return bool(abs(total - expected) <= precision * max(size, scale, 1e-30))

    has_derivative = False
    for way, differentiate in _WAYS.items():
        try:
            derivatives = differentiate(op, point, direction)
        except (NotImplementedError, RuntimeError):
            continue
        has_derivative |= any(bool(each.any()) for each in derivatives)
        if len(derivatives) == len(outputs) and agrees(
            [torch.where(v == 0, 0, d) for v, d in zip(probes, derivatives, strict=True)]
        ):
            return way, derivatives
    values = [torch.where(output.isfinite(), output, 0).detach() for output in outputs]
    if agrees(values):
        return "linear", None
    if has_derivative:
        raise NoDerivativeError
    return "none", None


def _product(factors: Sequence[Tensor | None], values: Sequence[Tensor]) -> tuple[float, float]:
    """The inner product of two lists of tensors, and the sum of the magnitudes of its terms."""
    terms = [
        in_double_precision((factor * value.conj()).real if value.is_complex() else factor * value)
        for factor, value in zip(factors, values, strict=True)
        if factor is not None
    ]
    # nansum, because the softmax of a row of -inf has a gradient of NaN.
    total = sum(float(each.nansum()) for each in terms)
    return total, sum(float(each.abs().nansum()) for each in terms)
