"""Random values for the learned tensors of a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_tgrad.sanity_checks.layers import Layer

# A tensor whose values are all equal has no standard deviation to keep.
_SPREAD_OF_ZEROS = 0.1
_SPREAD_OF_VARIANCES = 0.5


@torch.no_grad()
def randomize(layer: Layer, generator: torch.Generator) -> None:
    """Replaces the values of every tensor of a layer, in place.

    The new values come from a normal distribution with the mean and the standard deviation of the
    tensor, truncated at two standard deviations. Variances stay positive: the distribution of
    their logarithms is used. Activations roughly keep their size, so that a map changes because
    learned values are lost and not because units die or overflow. If all values of a tensor are
    equal, as the 1s and 0s of a new batch norm, the standard deviation is half of that value, or
    0.1 for zeros. The generator is on the CPU, so that the values are the same on every device.
    """
    for tensor, is_variance in layer.tensors:
        values = tensor.double().cpu()
        if is_variance:
            values = values.clamp_min(torch.finfo(torch.float32).tiny).log()
            otherwise = _SPREAD_OF_VARIANCES
        else:
            otherwise = float(values.mean().abs()) / 2 or _SPREAD_OF_ZEROS
        noise = torch.empty_like(values)
        nn.init.trunc_normal_(noise, generator=generator)  # from -2 to 2
        found = values.mean() + _spread(values, otherwise) * noise
        tensor.copy_(found.exp() if is_variance else found)


def _spread(values: Tensor, otherwise: float) -> float:
    spread = float(values.std(correction=0))
    # The mean of equal values may differ from them by rounding.
    return spread if spread > 1e-9 * float(values.abs().max()) else otherwise
