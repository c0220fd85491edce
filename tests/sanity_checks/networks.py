"""Small networks to randomize."""

import torch
from torch import nn


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),  # fresh: ones and zeros
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(4 * 8 * 10, 5),
    ).eval()


def images(samples: int = 2) -> torch.Tensor:
    return torch.rand(samples, 3, 12, 14, generator=torch.Generator().manual_seed(2))


class Bare(nn.Module):
    """Its parameters belong to no standard layer; the path of one is that of the model itself."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.shift = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.body = nn.ParameterDict({"weight": nn.Parameter(torch.randn(5, 3 * 12 * 14))})
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return (x + self.shift).flatten(1) @ self.body["weight"].T
