"""Baselines: the values that replace features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.arguments import check_number
from captum_tgrad.decomposition.precision import in_full_precision, without_autocast

Baseline = Tensor | float | Callable[[Tensor], Tensor] | None
Baselines = Baseline | tuple[Baseline, ...]
Preset = Literal["paper", "rise"]

# Above this length, a band matrix would take more memory than the images.
_LONG = 2048


@dataclass(frozen=True)
class _Blur:
    kernel_size: int
    sigma: float

    def __call__(self, inputs: Tensor) -> Tensor:
        _check_spatial(inputs, "blur")
        blurred = in_full_precision(inputs)
        kernel = self._kernel().to(blurred)
        with without_autocast(inputs):
            for dimension in range(2, inputs.dim()):
                lines = _blur_lines(blurred.movedim(dimension, -1), kernel)
                blurred = lines.movedim(-1, dimension)
        return blurred.to(inputs.dtype)

    @property
    def __name__(self) -> str:
        return f"blur(kernel_size={self.kernel_size}, sigma={self.sigma:g})"

    def _kernel(self) -> Tensor:
        """A Gaussian out to four sigma; what lies outside of the window is wrapped into it."""
        reach = int(4 * self.sigma + 0.5)
        offsets = torch.arange(-reach, reach + 1, device="cpu")
        weights = torch.exp(-0.5 * (offsets.double() / self.sigma) ** 2)
        kernel = torch.zeros(self.kernel_size, dtype=torch.float64, device="cpu")
        places = (offsets + self.kernel_size // 2) % self.kernel_size
        return kernel.index_add_(0, places, weights / weights.sum())


def _blur_lines(lines: Tensor, kernel: Tensor) -> Tensor:
    """Blurs along the last dimension, with zeros beyond its ends."""
    length, half = lines.shape[-1], len(kernel) // 2
    if length > _LONG:
        rows = lines.reshape(-1, 1, length)
        return F.conv1d(rows, kernel.reshape(1, 1, -1), padding=half).reshape(lines.shape)
    # A product with a band matrix: on a CPU, a tenth of the time of the convolution.
    places = torch.arange(length, device=lines.device)
    offsets = places - places[:, None] + half
    inside = (offsets >= 0) & (offsets < len(kernel))
    return lines @ torch.where(inside, kernel[offsets.clamp(0, len(kernel) - 1)], 0)


def blur(kernel_size: int = 51, sigma: float = 10.0) -> Callable[[Tensor], Tensor]:
    """A baseline: the input, blurred along its spatial dimensions.

    Source: the kernel and the zero padding are those of the code of Petsiuk, Das and Saenko, "RISE:
    Randomized Input Sampling for Explanation of Black-box Models", 2018. That code uses
    ``blur(11, 5)``, which is nearly a box filter, because the tails of the Gaussian are folded back
    into the window. With it, ImageNet images stay recognizable; with the default, they do not.

    Args:
        kernel_size: Width of the window in pixels, odd.
        sigma: Standard deviation of the Gaussian in pixels.

    Returns:
        A callable from inputs ``(N, C, *spatial)`` to their baseline, of the same shape.

    Raises:
        TypeError: ``sigma`` is not a number, or ``blur`` itself is passed as a baseline.
        ValueError: ``kernel_size`` is not odd and positive, or ``sigma`` not positive and finite.

    Example:
        >>> import torch
        >>> blur(3, 1.0)(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]])).round(decimals=3)
        tensor([[[0.0000, 0.2960, 0.4080, 0.2960, 0.0000]]])
    """
    if isinstance(kernel_size, Tensor):
        raise TypeError("blur is called with inputs as kernel_size: pass baselines=blur().")
    if not isinstance(kernel_size, Integral) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be a positive odd integer, got {kernel_size!r}.")
    if not 0 < check_number(sigma, "sigma") < math.inf:
        raise ValueError(f"sigma must be positive and finite, got {sigma!r}.")
    return _Blur(int(kernel_size), float(sigma))


def zeros(inputs: Tensor) -> Tensor:
    """A baseline: 0 everywhere; for normalized images, the mean color of the data set."""
    return torch.zeros_like(inputs)


def mean_color(inputs: Tensor) -> Tensor:
    """A baseline: the mean of each channel over the positions of the sample, like ``inputs``.

    Raises:
        ValueError: ``inputs`` are not floats of shape ``(N, C, *spatial)``.

    Example:
        >>> import torch
        >>> mean_color(torch.tensor([[[0.0, 4.0]]]))
        tensor([[[2., 2.]]])
    """
    _check_spatial(inputs, "mean_color")
    return inputs.mean(tuple(range(2, inputs.dim())), keepdim=True).expand_as(inputs)


def _check_spatial(inputs: Tensor, name: str) -> None:
    if inputs.dim() < 3 or not inputs.is_floating_point():
        raise ValueError(
            f"{name} needs float inputs (N, C, *spatial), got {inputs.dtype} of shape"
            f" {tuple(inputs.shape)}. Pass other baselines, such as 0."
        )


def is_for_channels_first(baseline: object) -> bool:
    """Whether it is one of the callables of this file that support channels-first only."""
    return isinstance(baseline, _Blur) or baseline is mean_color


PRESETS: dict[Preset, dict[str, Baseline]] = {
    "paper": {"insertion": blur(51, 10), "deletion": blur(51, 10)},
    "rise": {"insertion": blur(11, 5), "deletion": zeros},
}
"""The default baselines, by the name of the preset and the curve."""
