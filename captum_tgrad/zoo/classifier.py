"""What the rest of the package needs to know about a classifier of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, repr=False)
class Classifier:
    """A network in evaluation mode, with what leads from an image to its input and to its classes.

    Attributes:
        name: The name it was loaded by, such as ``"torchvision:resnet50"``.
        model: Takes (N, 3, H, W) and returns logits (N, classes); in evaluation mode.
        class_names: One name for each column of the logits.
        preprocess: RGB image -> (3, H, W) float32, the tensor that the network sees.
        crop: RGB image -> the part of it that the network sees, H x W pixels: ``preprocess``
            without the step to numbers, so that a map can be laid over it.
    """

    name: str
    model: nn.Module
    class_names: tuple[str, ...]
    preprocess: Callable[[Image], Tensor]
    crop: Callable[[Image], Image]

    def __repr__(self) -> str:
        kind, count = type(self.model).__name__, len(self.class_names)
        return f"Classifier({self.name!r}, {kind}, {count} classes)"
