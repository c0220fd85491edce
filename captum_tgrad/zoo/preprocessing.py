"""Preprocessing of images: resize, crop, normalize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from PIL.Image import Image, new
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform

from captum_tgrad._support.arguments import check_choice
from captum_tgrad.zoo.classifier import Box, Classifier
from captum_tgrad.zoo.images import as_rgb

Resize = Literal["crop", "squash", "pad"]
"""How an image becomes a square; see ``Preprocessing``."""


@dataclass(frozen=True)
class Preprocessing:
    """The standard preprocessing of ImageNet classifiers.

    The image and the tensor come from the same crop, so figures show what the network received.

    Attributes:
        resize_size: The shorter side after resizing, in pixels, before the center crop.
        crop_size: The side of the network input, in pixels.
        interpolation: The interpolation mode.
        mean: Per-channel mean used for normalization, for pixel values in [0, 1].
        std: Per-channel standard deviation used for normalization, for pixel values in [0, 1].
        resize: ``"crop"`` crops the center, as in training and for published accuracies;
            ``"squash"`` resizes the whole image to a square; ``"pad"`` keeps its aspect ratio, with
            a border of the mean color, which is 0 after normalization.
    """

    resize_size: int
    crop_size: int
    interpolation: InterpolationMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        check_choice(self.resize, Resize, "resize")

    def crop(self, image: Image) -> Image:
        """Returns the part of an RGB image that the network sees, ``crop_size`` squared."""
        image = as_rgb(image)
        cropped: Image
        if self.resize == "crop":
            resized = transform.resize(image, [self.resize_size], interpolation=self.interpolation)
            cropped = transform.center_crop(resized, [self.crop_size])
            return cropped
        left, top, right, bottom = self.shown(*image.size)
        cropped = transform.resize(
            image, [bottom - top, right - left], interpolation=self.interpolation
        )
        if self.resize == "pad":
            border = [left, top, self.crop_size - right, self.crop_size - bottom]
            color = [round(255 * channel) for channel in self.mean]
            cropped = transform.pad(cropped, border, fill=color)
        return cropped

    def seen(self, width: int, height: int) -> Box:
        """The part of an image of this size that the network sees, in pixels of the image."""
        if self.resize != "crop":
            return 0, 0, width, height
        side = self.crop_size * min(width, height) / self.resize_size
        left, top = (max(round((size - side) / 2), 0) for size in (width, height))
        return left, top, width - left, height - top

    def shown(self, width: int, height: int) -> Box:
        """The position of that part in the network input, in pixels of ``crop``."""
        if self.resize == "squash":
            inner = [self.crop_size] * 2
        elif self.resize == "pad":
            scale = self.crop_size / max(width, height)
            inner = [max(round(size * scale), 1) for size in (width, height)]
        else:  # a crop larger than the resized image has a border
            resized = (int(self.resize_size * s / min(width, height)) for s in (width, height))
            inner = [min(size, self.crop_size) for size in resized]
        left, top = ((self.crop_size - size) // 2 for size in inner)
        return left, top, left + inner[0], top + inner[1]

    def __call__(self, image: Image) -> Tensor:
        """Returns an RGB image as (3, crop_size, crop_size), float32, normalized."""
        pixels = transform.to_tensor(self.crop(image))
        normalized: Tensor = transform.normalize(pixels, list(self.mean), list(self.std))
        return normalized


def normalization(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """``mean`` and ``std`` of ``pixels = inputs * std + mean``, ``(C,)``, for pixels in [0, 1].

    A ``Preprocessing`` has both; another callable, which must normalize each channel linearly, is
    evaluated on a black and a white image.
    """
    steps = classifier.preprocess
    if isinstance(steps, Preprocessing):
        return torch.tensor(steps.mean, device="cpu"), torch.tensor(steps.std, device="cpu")
    black, white = (
        steps(new("RGB", (64, 64), color)).flatten(1).mean(1) for color in ("black", "white")
    )
    std = 1 / (white - black)
    return -black * std, std
