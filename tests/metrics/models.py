"""Models for the tests of the metrics."""

import torch
from torch import nn


def linear(weights, dtype=torch.float64):
    """One output per sample: the inner product of the flattened input with ``weights``."""
    weights = torch.as_tensor(weights, dtype=dtype)

    def forward(inputs):
        return (inputs.flatten(1) * weights.flatten()).sum(1)

    return forward


def classifier(channels=3, classes=4, dtype=torch.float64):
    """A small convolutional network in evaluation mode, with weights of its own."""
    generator = torch.Generator().manual_seed(7)
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(3),
        nn.Flatten(),
        nn.Linear(54, classes),
    )
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.to(dtype).eval()


def random(*shape, seed=0, dtype=torch.float64):
    """Normal random numbers that do not touch the global random state."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def permutation(*shape, seed=0):
    """A map without ties for each sample: 0, 1, 2, ... in random order."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.Size(shape[1:]).numel()
    rows = [torch.randperm(size, generator=generator) for _ in range(shape[0])]
    return torch.stack(rows).reshape(shape).double()
