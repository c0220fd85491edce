"""Checks of the arguments of a metric, before the model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from captum_tgrad._support.arguments import check_choice
from captum_tgrad._support.input_checks import (
    broken_samples,
    check_callable,
    check_device,
    listed,
    named_tensors,
)

NanPolicy = Literal["raise", "omit"]


def check_model_and_inputs(
    forward_func: Callable[..., Any], inputs: Any, nan_policy: NanPolicy
) -> tuple[Tensor, ...]:
    """The inputs as a tuple, without gradient; raises TypeError or ValueError for bad ones."""
    check_callable(forward_func)
    check_choice(nan_policy, NanPolicy, "nan_policy")
    named = named_tensors(inputs)
    for name, tensor in named:
        check_finite(tensor, name, nan_policy)
    tensors = tuple(tensor.detach() for _, tensor in named)
    check_device(forward_func, tensors)
    return tensors


def methods_of(given: Any, argument: str = "attributions") -> dict[str, Any]:
    """The argument of each method, by its name in messages."""
    if not isinstance(given, Mapping):
        return {argument: given}
    if not given:
        raise ValueError(f"{argument} is an empty dict. Pass at least one method.")
    return {f"{argument}[{name!r}]": each for name, each in given.items()}


def check_finite(tensor: Tensor, name: str, nan_policy: NanPolicy) -> Tensor:
    """Which samples hold NaN or inf, ``(N,)``; raises ValueError if they may not be omitted."""
    broken = broken_samples(tensor)
    check_omitted(broken, nan_policy, f"{name} holds NaN or inf in sample")
    return broken


def check_omitted(
    broken: Tensor, nan_policy: NanPolicy, before: str, after: str = "", which: str = "samples"
) -> None:
    """Raises ValueError if there are broken samples that may not be omitted.

    The message lists them between ``before`` and ``after``.
    """
    if nan_policy == "raise" and bool(broken.any()):
        raise ValueError(
            f"{before} {listed(broken)}{after}. Pass nan_policy='omit' to get NaN for these"
            f" {which}."
        )


def frozen_inputs(maps: Iterable[tuple[Tensor | None, ...]]) -> tuple[bool, ...]:
    """Which inputs have None for attributions, and are not changed.

    Raises ValueError if they differ between methods, which then could not share a baseline.
    """
    frozen = {tuple(each is None for each in of_method) for of_method in maps}
    if len(frozen) > 1:
        raise ValueError(
            "attributions of all methods must be None for the same inputs: score the methods in"
            " separate calls otherwise."
        )
    return frozen.pop()
