"""Converts attributions to maps for display."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad._support.arguments import got
from captum_tgrad._support.warn import warn_user
from captum_tgrad.visualization.arguments import check_one_each
from captum_tgrad.visualization.image_arrays import Array

# The share of the sum of absolute values beyond the end of the color scale, as in Captum: single
# pixels would darken the rest.
_OUTLIERS = 0.02


def as_maps(
    attributions: Tensor,
    sizes: Sequence[tuple[int, int]],
    argument: str,
    *,
    reduce: bool = False,
) -> list[Array]:
    """Sums attributions over channels, and upsamples coarse ones bilinearly to ``sizes``.

    They are ``(N, C, H, W)``; for one image also ``(C, H, W)`` or ``(H, W)``. Each map is
    ``(height, width)``, float64. With ``reduce``, maps larger than the image are averaged; without,
    they raise ValueError.
    """
    if not isinstance(attributions, Tensor) or attributions.is_complex():
        kind = str(attributions.dtype) if isinstance(attributions, Tensor) else got(attributions)
        raise TypeError(f"{argument} must be a tensor of real numbers, got {kind}")
    shape = tuple(attributions.shape)
    if len(shape) not in (2, 3, 4) or 0 in shape:
        hint = f", such as slices of volumes, {argument}[:, :, index]" if len(shape) == 5 else ""
        raise ValueError(
            f"{argument} has shape {shape}: pass (N, C, H, W), (C, H, W) or (H, W){hint}"
        )
    values = attributions.detach().cpu().double().reshape(-1, *shape[-3:])
    values = values[:, None] if len(shape) == 2 else values
    summed = values.sum(dim=1, keepdim=True)
    check_one_each(summed, len(sizes), argument)
    if not summed.isfinite().all():
        raise ValueError(f"{argument} has values that are not finite: see torch.nan_to_num")
    for height, width in sizes:
        if not reduce and (summed.shape[2] > height or summed.shape[3] > width):
            raise ValueError(
                f"{argument} has shape {shape}, but the image is {height} pixels high and {width}"
                " wide: pass the part of the image that the network saw, as Classifier.crop returns"
                " it"
            )
    return [_resized(one[None], size) for one, size in zip(summed, sizes, strict=True)]


def warn_if_stretched(
    attributions: Tensor, sizes: Sequence[tuple[int, int]], argument: str
) -> None:
    """Warns if the aspect ratios of maps and images differ, beyond the rounding of coarse maps."""
    height, width = attributions.shape[-2:]
    for size in sizes:
        if abs(math.log(size[0] * width / (size[1] * height))) > 1 / height + 1 / width:
            warn_user(
                f"{argument} has shape {tuple(attributions.shape)} and is stretched over an image"
                f" {size[0]} pixels high and {size[1]} wide. Pass the part of the image that the"
                " network saw, as Classifier.crop returns it."
            )
            return


def _resized(one: Tensor, size: tuple[int, int]) -> Array:
    coarse = (min(size[0], one.shape[2]), min(size[1], one.shape[3]))
    pooled = F.adaptive_avg_pool2d(one, coarse)
    array: Array = F.interpolate(pooled, size, mode="bilinear")[0, 0].numpy()
    return array


def note_on(values: Array) -> str | None:
    """A label for maps that are 0, constant or nowhere positive; None for others.

    Example:
        >>> import numpy as np
        >>> note_on(np.zeros((2, 2))), note_on(np.ones((2, 2)))
        ('0 everywhere', 'the same everywhere')
        >>> note_on(np.array([[-1.0, -2.0]])), note_on(np.array([[1.0, -2.0]]))
        ('nothing above 0', None)
    """
    if not values.any():
        return "0 everywhere"
    if values.min() == values.max():
        return f"{'below 0, ' if values.max() < 0 else ''}the same everywhere"
    return "nothing above 0" if values.max() <= 0 else None


def is_signed(maps: Iterable[Array]) -> bool:
    """Whether any of them has evidence against its class."""
    return any(bool((values < 0).any()) for values in maps)


def limit_of(maps: Sequence[Array]) -> float:
    """The absolute value at the end of the color scale of ``maps``; 1 for zeros.

    As in Captum's ``visualize_image_attr``, the pixels above it hold 2% of the sum of absolute
    values. There, every map is scaled by itself; here, several can share one scale.

    Example:
        >>> import numpy as np
        >>> limit_of([np.array([[1.0, 1.0], [1.0, -3.0]])])
        3.0
    """
    values = np.sort(np.abs(np.concatenate([each.ravel() for each in maps])))
    if values[-1] == 0:
        return 1.0
    sums = np.cumsum(values / values[-1])  # scaled, so that sums of huge values do not overflow
    return float(values[np.searchsorted(sums, sums[-1] * (1 - _OUTLIERS))])
