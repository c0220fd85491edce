"""Finds the last convolution of a network that runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


class LastConvolution:
    """A context that finds the last convolution that runs with more than one output position.

    The order in which the layers run counts, not the order of their definition. A convolution
    after global pooling (a classifier made of 1x1 convolutions, the gate of a squeeze-excitation
    block) is skipped, because its map would be constant.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layer: nn.Module | None = None
        self._convolutions = [each for each in model.modules() if isinstance(each, _ConvNd)]

    def __enter__(self) -> LastConvolution:
        self._handles = [each.register_forward_hook(self._ran) for each in self._convolutions]
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def found(self) -> nn.Module:
        """The layer; raises ValueError if no such convolution has run."""
        if self.layer is None:
            spatial = "no convolution in the forward pass has a spatial output"
            reason = spatial if self._convolutions else "it has none"
            raise ValueError(
                "target_layers is missing, and the model has no convolution to use instead:"
                f" {reason}. Pass target_layers=[a module with a spatial output]; a transformer"
                " also needs reshape_transform=."
            )
        return self.layer

    def _ran(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() >= 4 and output.shape[2:].numel() > 1:
            self.layer = module
