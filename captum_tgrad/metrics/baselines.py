"""What stands in for a feature that is taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.metrics.features import empty_examples

Baseline = Tensor | float | Callable[[Tensor], Tensor] | None
Baselines = Baseline | tuple[Baseline, ...]
Preset = Literal["paper", "rise"]


@dataclass(frozen=True)
class _Blur:
    kernel_size: int
    sigma: float

    def __call__(self, inputs: Tensor) -> Tensor:
        if inputs.dim() < 3 or not inputs.is_floating_point():
            raise ValueError(
                f"blur needs float inputs with neighbours, (N, C, *spatial); got {inputs.dtype} of"
                f" shape {tuple(inputs.shape)}. Pass other baselines, such as 0."
            )
        dtype = torch.promote_types(inputs.dtype, torch.float32)
        kernel = self._kernel().to(inputs.device, dtype).reshape(1, 1, -1)
        blurred = inputs.to(dtype)
        for dimension in range(2, inputs.dim()):
            moved = blurred.movedim(dimension, -1)
            lines = moved.reshape(-1, 1, moved.shape[-1])
            lines = F.conv1d(lines, kernel, padding=self.kernel_size // 2)
            blurred = lines.reshape(moved.shape).movedim(-1, dimension)
        return blurred.to(inputs.dtype)

    def __repr__(self) -> str:
        return f"blur(kernel_size={self.kernel_size}, sigma={self.sigma:g})"

    def _kernel(self) -> Tensor:
        """A Gaussian out to four sigma; what lies outside of the window is wrapped into it."""
        reach = int(4 * self.sigma + 0.5)
        offsets = torch.arange(-reach, reach + 1)
        weights = torch.exp(-0.5 * (offsets.double() / self.sigma) ** 2)
        kernel = torch.zeros(self.kernel_size, dtype=torch.float64)
        places = (offsets + self.kernel_size // 2) % self.kernel_size
        return kernel.index_add_(0, places, weights / weights.sum())


def blur(kernel_size: int = 51, sigma: float = 10.0) -> Callable[[Tensor], Tensor]:
    """A baseline: the input, blurred along its spatial dimensions.

    Source: the kernel and the zeros beyond the border are those of the code of Petsiuk, Das and
    Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018, which
    takes ``blur(11, 5)``: nearly a box, as what a Gaussian has outside of the window is folded
    back into it. It leaves much of an ImageNet picture recognisable; the default does not.

    Args:
        kernel_size: Width of the window in pixels, odd.
        sigma: Standard deviation of the Gaussian in pixels.

    Returns:
        A callable from inputs ``(N, C, *spatial)`` to their baseline, of the same shape.

    Raises:
        ValueError: ``kernel_size`` is not odd and positive, or ``sigma`` not positive.

    Example:
        >>> import torch
        >>> blur(3, 1.0)(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]])).round(decimals=3)
        tensor([[[0.0000, 0.2960, 0.4080, 0.2960, 0.0000]]])
    """
    if not isinstance(kernel_size, int) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be a positive odd integer, got {kernel_size!r}.")
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma!r}.")
    return _Blur(kernel_size, float(sigma))


def zeros(inputs: Tensor) -> Tensor:
    """A baseline: 0 everywhere; for normalised pictures, their data set's mean colour.

    Args:
        inputs: Any tensor.

    Returns:
        Zeros of the same shape.
    """
    return torch.zeros_like(inputs)


def mean_colour(inputs: Tensor) -> Tensor:
    """A baseline: the mean of each channel over the sample's own places.

    Args:
        inputs: Shape ``(N, C, *spatial)``.

    Returns:
        The baseline, of the same shape.

    Raises:
        ValueError: ``inputs`` have no places to average over.

    Example:
        >>> import torch
        >>> mean_colour(torch.tensor([[[0.0, 4.0]]]))
        tensor([[[2., 2.]]])
    """
    if inputs.dim() < 3 or not inputs.is_floating_point():
        raise ValueError(
            f"mean_colour needs float inputs (N, C, *spatial); got {inputs.dtype} of shape"
            f" {tuple(inputs.shape)}. Pass other baselines, such as 0."
        )
    return inputs.mean(tuple(range(2, inputs.dim())), keepdim=True).expand_as(inputs)


PRESETS: dict[Preset, dict[str, Baseline]] = {
    "paper": {"insertion": blur(51, 10), "deletion": blur(51, 10)},
    "rise": {"insertion": blur(11, 5), "deletion": zeros},
}
"""What ``baselines=None`` stands for, by the name of the preset and the curve."""


def choose(
    baselines: Baselines | Mapping[str, Baselines], preset: Preset, curves: tuple[str, ...]
) -> dict[str, Baselines]:
    """The baseline of each curve, in the user's form: None is left for ``resolve``.

    Raises:
        ValueError: The preset is unknown, or a dict does not name the curves.
    """
    if preset not in get_args(Preset):
        raise ValueError(f"preset must be 'paper' or 'rise', got {preset!r}.")
    if not isinstance(baselines, Mapping):
        return dict.fromkeys(curves, baselines)
    if not set(curves) <= set(baselines) <= {"insertion", "deletion"}:
        raise ValueError(
            f"baselines has the keys {sorted(map(str, baselines))}; a dict needs one for each"
            f" curve: {', '.join(curves)}."
        )
    return {curve: baselines[curve] for curve in curves}


def resolve(
    baselines: Baselines,
    inputs: tuple[Tensor, ...],
    frozen: tuple[bool, ...],
    default: Baseline = zeros,
) -> tuple[tuple[Tensor, ...], str | list[str]]:
    """The tensors that ``baselines`` stands for, shaped like the inputs, and what to call them.

    None stands for ``default``; for a table, which has no neighbours to blur with, for captum's
    own default, 0. A frozen input is its own baseline.

    Raises:
        TypeError: A baseline is neither a tensor nor a number nor a callable.
        ValueError: The number of baselines, or the shape of one, does not fit the inputs.
    """
    each = baselines if isinstance(baselines, tuple) else (baselines,) * len(inputs)
    if len(each) != len(inputs):
        raise ValueError(f"baselines has {len(each)} entries for {len(inputs)} inputs.")
    tensors, labels = [], []
    for number, (baseline, tensor) in enumerate(zip(each, inputs, strict=True)):
        name = f"baselines[{number}]" if isinstance(baselines, tuple) else "baselines"
        if frozen[number]:
            tensors.append(tensor)
            labels.append("frozen")
            continue
        if baseline is None:
            baseline = default if tensor.dim() > 2 else zeros
        tensors.append(_as_tensor(baseline, tensor, name))
        labels.append(_label(baseline))
    return tuple(tensors), labels[0] if len(labels) == 1 else labels


def _as_tensor(baseline: Any, tensor: Tensor, name: str) -> Tensor:
    if isinstance(baseline, (int, float)) and not isinstance(baseline, bool):
        return torch.full_like(tensor, baseline)
    if callable(baseline) and not isinstance(baseline, Tensor):
        baseline = baseline(tensor)
        name = f"the result of the callable {name}"
    if not isinstance(baseline, Tensor):
        raise TypeError(
            f"{name} must be a tensor, a number or a callable that returns a tensor, got"
            f" {type(baseline).__name__}."
        )
    shape, wanted = tuple(baseline.shape), tuple(tensor.shape)
    if len(shape) != len(wanted) or any(
        one not in (1, other) for one, other in zip(shape, wanted, strict=True)
    ):
        raise ValueError(
            f"{name} has shape {shape} for inputs of shape {wanted}: each dimension must be the"
            " same or 1."
        )
    # In the memory format of the inputs: examples are copied from it at every step.
    return empty_examples(tensor.shape[0], tensor).copy_(baseline.detach())


def _label(baseline: Any) -> str:
    if isinstance(baseline, Tensor):
        return f"tensor of shape {tuple(baseline.shape)}"
    if isinstance(baseline, (int, float)):
        return f"{baseline:g}"
    if isinstance(baseline, _Blur):
        return repr(baseline)
    return str(getattr(baseline, "__name__", type(baseline).__name__))
