"""How a classifier's inputs are brought back to pixels."""

from __future__ import annotations

from torch import Tensor

from captum_tgrad.zoo.classifier import Classifier


def normalization(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """What ``pixels = inputs * std + mean`` needs, seen from what black and white become.

    Args:
        classifier: One whose ``preprocess`` treats each channel by itself and in proportion.

    Returns:
        ``mean`` and ``std`` of each channel, ``(C,)``, for pixels in [0, 1].
    """
    from PIL import Image

    size = (64, 64)
    black, white = (
        classifier.preprocess(Image.new("RGB", size, color)).flatten(1).mean(1)
        for color in ("black", "white")
    )
    std = 1 / (white - black)
    return -black * std, std
