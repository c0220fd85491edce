"""New values for what a layer has learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_tgrad.sanity_checks.layers import Layer

# Where a truncated normal is usually cut, in standard deviations.
_CUT = 2.0
# A tensor whose values are all the same has no spread to keep.
_SPREAD_OF_ZEROS = 0.1
_SPREAD_OF_VARIANCES = 0.5


@torch.no_grad()
def randomize(layer: Layer, generator: torch.Generator) -> None:
    """Gives every tensor of a layer new values, in place.

    They come from a normal distribution with the mean and the standard deviation of the tensor,
    cut at two standard deviations, and of a variance from one with those of its logarithm. What
    the layer has learned is gone, and activations keep roughly their size, so that a map changes
    for the loss of what was learned and not because units died or overflowed. Where all values of
    a tensor are the same, such as the 1s and 0s of a new batch norm, half of that value takes the
    place of the standard deviation, or 0.1 for zeros.

    Args:
        layer: What to change.
        generator: A generator on the CPU; the values are the same on every device.
    """
    for tensor in layer.tensors:
        values = tensor.double().cpu()
        spread = _spread(values, float(values.mean().abs()) / 2 or _SPREAD_OF_ZEROS)
        tensor.copy_(values.mean() + spread * _truncated_normal(values, generator))
    for variance in layer.variances:
        logarithms = variance.double().cpu().clamp_min(torch.finfo(torch.float32).tiny).log()
        spread = _spread(logarithms, _SPREAD_OF_VARIANCES)
        noise = _truncated_normal(logarithms, generator)
        variance.copy_((logarithms.mean() + spread * noise).exp())


def _spread(values: Tensor, otherwise: float) -> float:
    spread = float(values.std(correction=0))
    # Equal values in half precision are equal; in float64 their mean may round.
    return spread if spread > 1e-9 * float(values.abs().max()) else otherwise


def _truncated_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return nn.init.trunc_normal_(torch.empty_like(like), a=-_CUT, b=_CUT, generator=generator)
