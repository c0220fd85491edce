"""A network and images small enough to evaluate in a moment."""

import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import normalize, to_tensor

from captum_tgrad.zoo import Classifier

SIDE = 16
CLASSES = 4


def network() -> nn.Module:
    """A convolutional classifier with four classes, the same every time."""
    generator = torch.Generator().manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    )
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return model.eval()


def reusing_network() -> nn.Module:
    """Uses one ReLU twice, which DeepLift refuses."""

    class Reusing(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)
            self.relu = nn.ReLU()

        def forward(self, images):
            pooled = self.relu(self.first(images)).mean((2, 3))
            return self.second(self.relu(pooled))

    torch.manual_seed(0)
    return Reusing().eval()


def dense_network() -> nn.Module:
    """Has no convolution."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES)).eval()


def images(count: int, seed: int = 0) -> torch.Tensor:
    """Images as a network takes them, ``(count, 3, SIDE, SIDE)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator)


def classifier(model: nn.Module | None = None) -> Classifier:
    """The network as a classifier of images, with pixels from -1 to 3."""

    def crop(picture: Image.Image) -> Image.Image:
        return picture.resize((SIDE, SIDE))

    def preprocess(picture: Image.Image) -> torch.Tensor:
        return normalize(to_tensor(crop(picture)), [0.25] * 3, [0.25] * 3)

    names = tuple(f"class {index}" for index in range(CLASSES))
    return Classifier("tiny", model or network(), names, preprocess, crop)
