"""A small network, and what the figures are drawn of."""

import torch
from torch import nn

from captum_tgrad import TGradAttribution


def small_network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(channels, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    nn.init.uniform_(model[1].bias, 0.1, 1)
    return model.eval()


def images(samples: int = 2, channels: int = 3) -> torch.Tensor:
    return torch.rand(samples, channels, 8, 8, generator=torch.Generator().manual_seed(1))


def decomposition(samples: int = 2, target: int = 1):
    return TGradAttribution(small_network()).decompose(images(samples), target=target)


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes if axes.get_title()]
