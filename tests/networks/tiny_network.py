"""What a tiny network is, and where its weights and inputs come from."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

IMAGES = (2, 3, 6, 5)
WIDTH = 4
CLASSES = 3


@dataclass(frozen=True)
class TinyNetwork:
    """One network of the zoo.

    Attributes:
        id: the name a test shows.
        layout: makes the module tree, its weights not yet seeded.
        shapes: the shapes of the inputs.
        target: as in captum.
        twin: the forward of the functional form, ``twin(network, *inputs)``, which
            finds parameters and constants in the modules of ``network``; or None.
        transform: applied to the standard normal inputs, e.g. to saturate units.
        conventional: False where some tensor is not laid out as (N, C, *spatial), so
            that its places are a matter of opinion and only scores can be compared.
        twin_terms: whether the twin has the same non-zero bias terms in the same order
            (False where it merges or splits operations; its input term always agrees).
        seed: of the weights and inputs.
    """

    id: str
    layout: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGES,)
    target: int | list[int] | None = 1
    twin: Callable[..., Tensor] | None = None
    transform: Callable[[Tensor], Tensor] = field(default=lambda x: x)
    conventional: bool = True
    twin_terms: bool = True
    seed: int = 0

    def build(self) -> nn.Module:
        """A new eval-mode float64 network; always the same weights."""
        network = self.layout().double().eval()
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for module in network.modules():
                _seed_module(module, generator)
        return network

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """New float64 tensors; always the same values."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        normal = (_normal(shape, generator) for shape in self.shapes)
        return tuple(self.transform(x) for x in normal)

    @property
    def functional(self) -> Callable[[nn.Module], nn.Module] | None:
        """``functional(network)``: the twin, sharing the modules of ``network``."""
        if self.twin is None:
            return None
        return lambda network: FunctionalTwin(network, self.twin)


class FunctionalTwin(nn.Module):
    """The children of a network under another forward."""

    def __init__(self, network: nn.Module, twin: Callable[..., Tensor]) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self.twin = twin
        self.train(network.training)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.twin(self, *inputs)


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _seed_module(module: nn.Module, generator: torch.Generator) -> None:
    """Weights that keep the scale, and biases and statistics that matter."""
    for name, parameter in module.named_parameters(recurse=False):
        values = _normal(parameter.shape, generator)
        if name == "weight" and parameter.dim() > 1:
            values *= 1.5 / parameter[0].numel() ** 0.5
        elif name == "weight":
            values = 1 + 0.3 * values if not isinstance(module, nn.PReLU) else values
        else:
            values *= 0.7
        parameter.copy_(values)
    for name, buffer in module.named_buffers(recurse=False):
        values = _normal(buffer.shape, generator)
        if name == "running_mean":
            buffer.copy_(0.5 * values)
        elif name == "running_var":
            buffer.copy_(0.5 + values**2)
        elif name == "constant":
            buffer.copy_(0.7 * values)
