"""Averages the maps of a method over noisy copies of its inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.precision import in_full_precision
from captum_tgrad.sanity_checks.map_maker import one_tensor


class Smoothed:
    """An attribution method whose maps are averaged over noise, for ``smooth_mprt``.

    Captum's ``NoiseTunnel`` has one standard deviation for all samples, and adds noise to all
    copies of the input.
    """

    def __init__(self, method: Any, n_samples: int, noise_level: float) -> None:
        self.method, self.n_samples, self.noise_level = method, n_samples, noise_level

    @property
    def forward_func(self) -> Any:
        """The method's ``forward_func``; None if it has none."""
        return getattr(self.method, "forward_func", None)

    def attribute(self, inputs: Tensor, target: Any = None, **options: Any) -> Tensor:
        """The mean of the attributions, in float32 or better."""
        rows = inputs.detach().flatten(1)
        spread = self.noise_level * (rows.amax(1) - rows.amin(1))
        spread = spread.reshape(-1, *[1] * (inputs.dim() - 1))
        mean = torch.zeros((), device="cpu")
        for number in range(self.n_samples):
            noise = torch.randn_like(inputs) if number else torch.zeros_like(inputs)
            noisy = inputs.detach() + spread * noise
            found = one_tensor(self.method.attribute(noisy, target=target, **options))
            mean = mean + in_full_precision(found.detach()) / self.n_samples
        return mean
