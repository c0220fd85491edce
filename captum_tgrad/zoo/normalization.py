"""The mean and standard deviation of a classifier's normalization."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.preprocessing import Preprocessing


def normalization(classifier: Classifier) -> tuple[Tensor, Tensor]:
    """``mean`` and ``std`` of ``pixels = inputs * std + mean``, ``(C,)``, for pixels in [0, 1].

    A ``Preprocessing`` has both; another callable, which must normalize each channel linearly, is
    evaluated on a black and a white image.
    """
    steps = classifier.preprocess
    if isinstance(steps, Preprocessing):
        return torch.tensor(steps.mean, device="cpu"), torch.tensor(steps.std, device="cpu")
    black, white = (
        steps(Image.new("RGB", (64, 64), color)).flatten(1).mean(1) for color in ("black", "white")
    )
    std = 1 / (white - black)
    return -black * std, std
