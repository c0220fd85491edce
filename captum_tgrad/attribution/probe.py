"""Runs a model on one sample, before a long computation, to see what its layers return."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd


class Probe:
    """One run of a model on an image.

    Args:
        model: The model.
        image: Shape ``(1, C, H, W)``.
        layers: The layers whose outputs are of interest; those of all convolutions are too.

    Attributes:
        output: What the model returned.
        shapes: The shape that each of these layers returned last; None if it was not a tensor.
    """

    def __init__(self, model: nn.Module, image: Tensor, layers: Sequence[nn.Module] = ()) -> None:
        self.shapes: dict[nn.Module, torch.Size | None] = {}
        self._last_convolution: nn.Module | None = None
        self._convolutions = {each for each in model.modules() if isinstance(each, _ConvNd)}
        watched = self._convolutions.union(layers)
        handles = [layer.register_forward_hook(self._ran) for layer in watched]
        try:
            with torch.no_grad():
                # A copy, because an in-place operation may overwrite the image.
                self.output = model(image.clone())
        finally:
            for handle in handles:
                handle.remove()

    def last_convolution(self) -> nn.Module:
        """The last convolution that ran with more than one output position.

        The order in which the layers run counts, not the order of their definition. A convolution
        after global pooling (a classifier made of 1x1 convolutions, the gate of a
        squeeze-excitation block) is skipped, because its map would be constant. Raises ValueError
        if there is none.
        """
        if self._last_convolution is None:
            spatial = "no convolution in the forward pass has a spatial output"
            reason = spatial if self._convolutions else "it has none"
            raise ValueError(
                "target_layers is missing, and the model has no convolution to use instead:"
                f" {reason}. Pass target_layers=[a module with a spatial output], or for evaluate"
                ' and compare, write layer = "MODULE" in a file of methods (--config); a'
                " transformer also needs reshape_transform=."
            )
        return self._last_convolution

    def _ran(self, module: nn.Module, inputs: Any, output: Any) -> None:
        shape = self.shapes[module] = output.shape if isinstance(output, Tensor) else None
        if module in self._convolutions and shape and shape[2:].numel() > 1:
            self._last_convolution = module
