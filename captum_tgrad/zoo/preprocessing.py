"""From a picture to what a network takes: resize, crop, normalize."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transform

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Preprocessing:
    """The usual steps of ImageNet classifiers, with the numbers of one of them.

    The picture and the tensor come from the same crop, so that what is shown under a map is what
    the network was given.

    Attributes:
        resize_size: The shorter side after resizing, in pixels.
        crop_size: The side of the square cut from the middle, in pixels.
        interpolation: How it is resized.
        mean: Of each channel, for pixel values in [0, 1].
        std: Of each channel, for pixel values in [0, 1].
    """

    resize_size: int
    crop_size: int
    interpolation: InterpolationMode
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of_torchvision(cls, transforms: Any) -> Preprocessing:
        """Returns the steps of ``weights.transforms()`` of a torchvision classifier."""
        return cls(
            resize_size=transforms.resize_size[0],
            crop_size=transforms.crop_size[0],
            interpolation=transforms.interpolation,
            mean=tuple(transforms.mean),
            std=tuple(transforms.std),
        )

    def crop(self, image: Image) -> Image:
        """Returns the part of an RGB picture that the network sees, ``crop_size`` squared."""
        resized = transform.resize(image, [self.resize_size], interpolation=self.interpolation)
        cropped: Image = transform.center_crop(resized, [self.crop_size])
        return cropped

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where ``crop`` cuts a picture of that size: left, top, right and bottom in its pixels."""
        side = self.crop_size * min(width, height) / self.resize_size
        left, top = (max(round((size - side) / 2), 0) for size in (width, height))
        return left, top, width - left, height - top

    def __call__(self, image: Image) -> Tensor:
        """Returns an RGB picture as (3, crop_size, crop_size), float32, normalized."""
        pixels = transform.to_tensor(self.crop(image))
        normalized: Tensor = transform.normalize(pixels, list(self.mean), list(self.std))
        return normalized
