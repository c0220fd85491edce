"""What most tiny networks are made of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.networks.tiny_network import CLASSES, WIDTH, TinyNetwork


def conv(inside: int = 3, outside: int = WIDTH, **options) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, **{"kernel_size": 3, "padding": 1, **options})


def head(channels: int = WIDTH) -> nn.Sequential:
    """Pooling to 3x2 places, so that places differ in weight, and a classifier."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(channels * 6, CLASSES)
    )


class Graph(nn.ModuleDict):
    """Named modules under a forward that is written where they are made."""

    def __init__(self, forward: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__(modules)
        self.graph = forward

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.graph(self, *inputs)


class Chain(nn.Sequential):
    """A sequence of named modules."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def between(operation: Callable[[], nn.Module], channels: int = WIDTH) -> Callable:
    """A layout: convolution, the operation, a ReLU and a head."""
    return lambda: Chain(
        conv=conv(),
        operation=operation(),
        relu=nn.ReLU(),
        head=head(channels),
    )


def between_twin(function: Callable[[nn.Module, Tensor], Tensor]) -> Callable:
    """The twin of ``between``: the operation is ``function(its module, x)``."""

    def twin(network: nn.Module, x: Tensor) -> Tensor:
        x = function(network.operation, network.conv(x))
        return network.head(torch.relu(x))

    return twin


def layer(
    name: str,
    module: Callable[[], nn.Module],
    function: Callable[[nn.Module, Tensor], Tensor] | None = None,
    channels: int = WIDTH,
    **options,
) -> TinyNetwork:
    """Convolution, the layer, a ReLU, a head."""
    twin = None if function is None else between_twin(function)
    return TinyNetwork(name, between(module, channels), twin=twin, **options)
