"""Resolves the forms of baselines to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_choice, check_number, got
from captum_tgrad.metrics.baselines import (
    PRESETS,
    Baseline,
    Baselines,
    Preset,
    is_for_channels_first,
    zeros,
)
from captum_tgrad.metrics.engine.checks import NanPolicy, check_finite
from captum_tgrad.metrics.engine.layout import channels_back, channels_first, empty_examples

Resolved = tuple[tuple[Tensor, ...], str | list[str]]
"""The baseline of every input, channels first, and their label in a protocol."""


def resolve(
    baselines: Baselines,
    inputs: tuple[Tensor, ...],
    frozen: tuple[bool, ...],
    channel_dims: tuple[int | None, ...],
    default: Baseline = zeros,
    nan_policy: NanPolicy = "omit",
) -> Resolved:
    """The tensors that ``baselines`` stands for, and their label.

    They and the inputs are channels first; the baselines have the channels in ``channel_dims``.

    None stands for ``default``; for a table, which cannot be blurred, for Captum's default, 0. A
    frozen input is its own baseline.
    """
    each = baselines if isinstance(baselines, tuple) else (baselines,) * len(inputs)
    if len(each) != len(inputs):
        raise ValueError(
            f"baselines must have one entry for each input, got {len(each)} for {len(inputs)}."
        )
    tensors, labels = [], []
    for number, (baseline, tensor, dim) in enumerate(zip(each, inputs, channel_dims, strict=True)):
        name = f"baselines[{number}]" if isinstance(baselines, tuple) else "baselines"
        if frozen[number]:
            tensors.append(tensor)
            labels.append("frozen")
            continue
        if baseline is None:
            baseline = default if tensor.dim() > 2 else zeros
        tensors.append(_as_tensor(baseline, tensor, name, dim))
        check_finite(tensors[-1], name, nan_policy)
        labels.append(_label(baseline))
    return tuple(tensors), labels[0] if len(labels) == 1 else labels


def resolve_each(
    baselines: Baselines | Mapping[str, Baselines],
    preset: Preset,
    curves: tuple[str, ...],
    inputs: tuple[Tensor, ...],
    frozen: tuple[bool, ...],
    channel_dims: tuple[int | None, ...],
    nan_policy: NanPolicy = "omit",
) -> dict[str, Resolved]:
    """``resolve`` for each curve; curves with the same baselines get the same object."""
    check_choice(preset, Preset, "preset")
    by_curve = baselines if isinstance(baselines, Mapping) else dict.fromkeys(curves, baselines)
    if not set(curves) <= set(by_curve) <= {"insertion", "deletion"}:
        raise ValueError(
            f"baselines has the keys {sorted(map(str, by_curve))}; a dict needs one for each"
            f" curve: {', '.join(curves)}."
        )
    made: dict[tuple[int, Baseline], Resolved] = {}
    found = {}
    for curve in curves:
        form = by_curve[curve]
        default = PRESETS[preset][curve]
        parts = form if isinstance(form, tuple) else (form,)
        key = id(form), default if any(each is None for each in parts) else None
        if key not in made:
            made[key] = resolve(form, inputs, frozen, channel_dims, default, nan_policy)
        found[curve] = made[key]
    return found


def _as_tensor(baseline: Any, tensor: Tensor, name: str, channel_dim: int | None) -> Tensor:
    given = channels_back(tensor, channel_dim)  # the input as the user knows it
    if isinstance(baseline, Real) and not isinstance(baseline, bool):
        baseline = check_number(baseline, name)
        _check_kept(torch.tensor(baseline, dtype=torch.float64, device="cpu"), tensor.dtype, name)
        return torch.full_like(tensor, baseline)
    if callable(baseline):
        if is_for_channels_first(baseline):
            baseline = channels_back(baseline(tensor), channel_dim)
        else:
            baseline = baseline(given.clone())  # a callable may write into its argument
        name = f"the result of the callable {name}"
    if not isinstance(baseline, Tensor):
        hint = " Pass a baseline such as captum_tgrad.metrics.blur()." * isinstance(baseline, str)
        raise TypeError(
            f"{name} must be a tensor, a number or a callable that returns a tensor, got"
            f" {got(baseline)}.{hint}"
        )
    shape, wanted = tuple(baseline.shape), tuple(given.shape)
    if len(shape) != len(wanted) or any(
        one not in (1, other) for one, other in zip(shape, wanted, strict=True)
    ):
        hint = f" Pass {name}.unsqueeze(0) to use it for all samples." * (shape == wanted[1:])
        raise ValueError(
            f"{name} has shape {shape} for inputs of shape {wanted}: each dimension must be equal"
            f" or 1.{hint}"
        )
    baseline = baseline.detach()
    _check_kept(baseline, tensor.dtype, name)
    # In the memory format of the inputs: examples are copied from it at every step.
    like_inputs = empty_examples(tensor.shape[0], tensor, channel_dim)
    return like_inputs.copy_(channels_first(baseline, channel_dim))


def _check_kept(baseline: Tensor, dtype: torch.dtype, name: str) -> None:
    """Raises ValueError if converting to an integer ``dtype`` would change the values."""
    if dtype.is_floating_point or dtype.is_complex:
        return
    if not torch.equal(baseline.to(dtype).to(baseline.dtype), baseline):
        raise ValueError(
            f"{name} holds values that {dtype} inputs cannot represent, such as fractions: pass"
            f" inputs.float(), or a baseline that {dtype} can represent."
        )


def _label(baseline: Any) -> str:
    if isinstance(baseline, Tensor):
        return f"tensor of shape {tuple(baseline.shape)}"
    if isinstance(baseline, Real):
        return f"{baseline:g}"
    return str(getattr(baseline, "__name__", type(baseline).__name__))
