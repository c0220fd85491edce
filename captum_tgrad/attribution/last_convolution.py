"""Which convolution of a network runs last."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


class LastConvolution:
    """Listens to a model's forward pass for the last convolution whose output has places.

    The order is that in which the layers run, not that in which they are listed. A convolution
    after global pooling (a classifier made of 1x1 convolutions, the gate of a squeeze-excitation
    block) sees the whole image in one place, and a map of it would be constant: it is passed over.

    Args:
        model: The model; it has hooks until ``remove`` is called.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layer: nn.Module | None = None
        self._handles = [
            module.register_forward_hook(self._ran)
            for module in model.modules()
            if isinstance(module, _ConvNd)
        ]

    def remove(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()

    def found(self) -> nn.Module:
        """The layer.

        Raises:
            ValueError: No such convolution has run.
        """
        if self.layer is None:
            reason = (
                "none of its convolutions has run, or none with an output larger than one place"
                if self._handles
                else "it has none"
            )
            raise ValueError(
                "target_layers is missing, and there is no last convolution in the model to take"
                f" instead: {reason}. Pass target_layers=[a module whose output has places]; a"
                " transformer's also needs reshape_transform=."
            )
        return self.layer

    def _ran(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() >= 4 and output.shape[2:].numel() > 1:
            self.layer = module
