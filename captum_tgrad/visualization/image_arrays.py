"""Converts network inputs to images for display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL.Image import Image
from torch import Tensor

from captum_tgrad._support.arguments import got
from captum_tgrad.zoo.images import as_rgb

Array = npt.NDArray[np.float64]
Images = Tensor | Image | Sequence[Image]
Numbers = Sequence[float] | Tensor
"""One number for each channel."""

_BYTE = 255
_CHANNELS = (1, 3)


def as_images(
    images: Images, mean: Numbers | None = None, std: Numbers | None = None
) -> list[Array]:
    """Converts images to arrays for matplotlib, without changing them.

    Integers range from 0 to 255. With ``mean`` and ``std``, floats are denormalized by
    ``values * std + mean`` and clipped to [0, 1]. Without them, images with values in [0, 1] are
    unchanged. Other (normalized) images are stretched from their minimum to their maximum, so their
    colors differ from those of the photo.

    Args:
        images: ``(N, C, H, W)`` or ``(C, H, W)`` with 1 or 3 channels, on any device; or Pillow
            images, which become RGB as by ``load_image``.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Returns:
        For each image ``(H, W, 3)``, float64 in [0, 1].

    Raises:
        TypeError: ``images`` is neither a tensor of real numbers nor Pillow images.
        ValueError: The shape is invalid, values are not finite, only one of ``mean`` and ``std`` is
            passed, or they do not have one number per channel.

    Example:
        >>> import torch
        >>> (picture,) = as_images(torch.full((1, 2, 2), 51, dtype=torch.uint8))
        >>> picture.shape, float(picture[0, 0, 0])
        ((2, 2, 3), 0.2)
        >>> (picture,) = as_images(torch.full((3, 2, 2), -1.0), mean=[0.5] * 3, std=[0.5] * 3)
        >>> float(picture.max())
        0.0
    """
    if not isinstance(images, Tensor):
        each = images if isinstance(images, (list, tuple)) else [images]
        return [_from_pillow(image) for image in each]
    if images.is_complex():
        raise TypeError(f"images must be a tensor of real numbers, got {images.dtype}")
    shape = tuple(images.shape)
    if images.dim() not in (3, 4) or shape[-3] not in _CHANNELS or 0 in shape:
        last = shape[-1:] and shape[-1] in _CHANNELS and images.dim() in (3, 4)
        hint = ": images.movedim(-1, -3) puts the channels first" if last else ""
        if images.dim() == 5:
            hint = ": pass slices of volumes, such as images[:, :, index]"
        raise ValueError(
            f"images has shape {shape}, not (N, C, H, W) or (C, H, W) with 1 or 3 channels{hint}"
        )
    values = images.detach().cpu().double().reshape(-1, *shape[-3:])
    if not values.isfinite().all():
        raise ValueError("images has values that are not finite: see torch.nan_to_num")
    if not (images.is_floating_point() or images.dtype == torch.bool):
        values = values / _BYTE
    if mean is not None or std is not None:
        values = _denormalized(values, mean, std)
    return [_drawable(picture) for picture in values]


def image_of_sample(
    images: Images, sample: int, samples: int, mean: Numbers | None, std: Numbers | None
) -> Array:
    """One of ``as_images``; raises ValueError unless there is an image for each sample."""
    pictures = as_images(images, mean, std)
    if len(pictures) != samples:
        raise ValueError(
            f"images has {len(pictures)} images for {samples} samples: pass the explained batch, or"
            " decomposition.sample(index) with its image"
        )
    return pictures[sample]


def _from_pillow(image: Any) -> Array:
    if not isinstance(image, Image):
        hint = ""
        if isinstance(image, (str, Path)):
            hint = ": read the file with captum_tgrad.zoo.load_image"
        elif isinstance(image, Tensor):
            hint = " in a list: pass torch.stack(images)"
        raise TypeError(f"images must be a tensor or Pillow images, got {got(image)}{hint}")
    return np.asarray(as_rgb(image), dtype=np.float64) / _BYTE


def _denormalized(values: Tensor, mean: Numbers | None, std: Numbers | None) -> Tensor:
    channels = values.shape[1]
    columns = []
    for name, numbers in (("mean", mean), ("std", std)):
        if numbers is None:
            raise ValueError(f"{name} is missing: pass both mean and std, or neither")
        column = torch.as_tensor(numbers, dtype=values.dtype, device="cpu").flatten()
        if len(column) not in (1, channels):
            raise ValueError(f"{name} has {len(column)} numbers for {channels} channels")
        columns.append(column.reshape(1, -1, 1, 1))
    return (values * columns[1] + columns[0]).clamp(0, 1)


def _drawable(values: Tensor) -> Array:
    smallest, largest = values.min(), values.max()
    if smallest < 0 or largest > 1:
        # A flat image has no range to stretch, and becomes the nearest gray.
        span = largest - smallest
        values = (values - smallest) / span if span > 0 else values.clamp(0, 1)
    # A copy: the pixels of a float64 image in channels-last order would be those of the user.
    picture: Array = values.expand(3, -1, -1).permute(1, 2, 0).numpy().copy()
    return picture
