"""The samples of a tensor's elements, and the error if they are unknown."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.coordinates import extended_along, hold_one_sample
from captum_tgrad.decomposition.places.places import Places


class SamplesLostError(ValueError):
    """The samples of a tensor's elements are unknown."""


def samples_lost(module: str, operation: str) -> SamplesLostError:
    """The error for an operation whose samples cannot be told apart."""
    return SamplesLostError(
        f"The samples of the batch cannot be told apart at the operation {operation!r}"
        f" in {module or 'forward_func'!r}: an operation before it mixes them, or may"
        " change their order. Explain them one at a time, in batches of 1."
    )


def sample_numbers(places: Places, samples: int) -> Tensor:
    """The number of each element's sample, -1 if unknown; broadcastable to the tensor."""
    rank = len(places.shape)
    if samples == 1:
        return torch.zeros([1] * rank, dtype=torch.long, device="cpu")
    coords = places.sample
    if coords is None:
        return torch.full([1] * rank, -1, device="cpu")
    if places.shape[:1] != (samples,):
        coords = extended_along(coords, coords.dims)
    numbers = coords.cells[:, 0].round().long()
    return coords.of_elements(numbers.where(hold_one_sample(coords.cells), -1), -1)
