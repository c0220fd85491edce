"""The networks that the benchmarks time, beyond those of torchvision at 224 x 224."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True)
class Case:
    """A network and what it is given.

    Args:
        name: As it is printed.
        build: Makes the network.
        shape: Of its input.
        limit: The largest ratio to Saliency that ``--check`` accepts.
        channel_dim: The dimension of the input that is not a place.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    limit: float
    channel_dim: int = 1

    def make(self, device: torch.device, times: int = 1) -> tuple[nn.Module, Tensor]:
        """The network in evaluation mode, with random weights, and a random input.

        The batch is ``times`` times as large as that of the case.

        Recurrent layers, which have no dropout, are in training mode: Saliency needs cuDNN's
        backward pass.
        """
        torch.manual_seed(0)
        model = self.build().eval().to(device)
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                module.train()
        shape = (times * self.shape[0], *self.shape[1:])
        return model, torch.randn(shape, device=device, requires_grad=True)


class Encoder(nn.Module):
    """A transformer encoder over a sequence of tokens, (N, T, 64)."""

    def __init__(self, layers: int = 2) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(64, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, (N, 10)."""
        scores: Tensor = self.head(self.encoder(tokens).mean(1))
        return scores


class Waveform(nn.Module):
    """Strided convolutions and a transformer encoder over audio, (N, 1, T), as in wav2vec 2.0."""

    def __init__(self) -> None:
        super().__init__()
        kernels = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
        layers: list[nn.Module] = []
        for number, (size, stride) in enumerate(kernels):
            layers += [nn.Conv1d(64 if number else 1, 64, size, stride), nn.GELU()]
        self.features = nn.Sequential(*layers)
        self.tokens = Encoder()

    def forward(self, waves: Tensor) -> Tensor:
        """Logits, (N, 10)."""
        scores: Tensor = self.tokens(self.features(waves).transpose(1, 2))
        return scores


class CellLoop(nn.Module):
    """An LSTM cell that is called once for each step of a sequence, (N, T, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(32, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, steps: Tensor) -> Tensor:
        """Logits, (N, 10)."""
        state = None
        for step in steps.unbind(1):
            state = self.cell(step, state)
        scores: Tensor = self.head(state[0])
        return scores


class Recurrent(nn.Module):
    """A recurrent layer over a sequence, (N, T, 32)."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(32, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, steps: Tensor) -> Tensor:
        """Logits, (N, 10)."""
        scores: Tensor = self.head(self.layer(steps)[0][:, -1])
        return scores


def torchvision_case(name: str, shape: tuple[int, ...], limit: float) -> Case:
    """A model of torchvision, by its name."""
    size = " x ".join(map(str, shape[2:]))
    batch = f"{name}, {size}, batch {shape[0]}"
    return Case(batch, lambda: torchvision.models.get_model(name, weights=None), shape, limit)


CASES = [
    torchvision_case("vgg16", (8, 3, 224, 224), 1.1),
    torchvision_case("resnet50", (8, 3, 224, 224), 1.1),
    torchvision_case("densenet121", (8, 3, 224, 224), 1.1),
    torchvision_case("mobilenet_v2", (8, 3, 224, 224), 1.2),
    torchvision_case("efficientnet_b0", (8, 3, 224, 224), 1.25),
    torchvision_case("swin_t", (4, 3, 224, 224), 1.3),
    torchvision_case("convnext_tiny", (4, 3, 224, 224), 1.3),
    torchvision_case("vit_b_16", (4, 3, 224, 224), 1.5),
    torchvision_case("r3d_18", (1, 3, 8, 112, 112), 1.1),
    torchvision_case("resnet18", (1, 3, 32, 32), 1.5),
    torchvision_case("mobilenet_v2", (1, 3, 96, 96), 1.8),
    Case("waveform, 160,000 samples, batch 1", Waveform, (1, 1, 160_000), 2),
    Case("transformer encoder, 1,024 tokens, batch 1", Encoder, (1, 1024, 64), 1.5, -1),
    Case("LSTM cell, 100 steps, batch 4", CellLoop, (4, 100, 32), 4, -1),
    Case("nn.LSTM, 100 steps, batch 4", lambda: Recurrent(nn.LSTM), (4, 100, 32), 2, -1),
    Case("nn.GRU, 100 steps, batch 4", lambda: Recurrent(nn.GRU), (4, 100, 32), 2, -1),
]
