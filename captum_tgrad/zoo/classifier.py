"""An image classifier with its preprocessing and class names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from PIL.Image import Image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""


@dataclass(frozen=True, repr=False)
class Classifier:
    """An image classifier: a network in evaluation mode, its preprocessing and class names.

    Attributes:
        name: Its name in ``load_classifier``, such as ``"torchvision:resnet50"``.
        model: From (N, 3, H, W) to logits (N, classes); in evaluation mode.
        class_names: One name for each column of the logits.
        preprocess: From an RGB image to the network input, (3, H, W) float32.
        crop: From an RGB image to the part that the network sees, H x W pixels: ``preprocess``
            without normalization, to draw maps over it.
    """

    name: str
    model: nn.Module
    class_names: tuple[str, ...]
    preprocess: Callable[[Image], Tensor]
    crop: Callable[[Image], Image]

    def __repr__(self) -> str:
        kind, count = type(self.model).__name__, len(self.class_names)
        return f"Classifier({self.name!r}, {kind}, {count} classes)"


def check_classifier(classifier: Any) -> None:
    """Raises TypeError unless given a ``Classifier``."""
    if not isinstance(classifier, Classifier):
        raise TypeError(
            "classifier must be a Classifier, as from captum_tgrad.zoo.load_classifier, got"
            f" {type(classifier).__name__}. To explain another model, use TGradAttribution."
        )
