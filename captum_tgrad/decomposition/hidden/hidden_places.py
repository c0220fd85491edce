"""Finds the places of hidden results: those of the sources, if backward passes confirm them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captum_tgrad.decomposition.hidden.hidden_terms import lost_in_hidden
from captum_tgrad.decomposition.maps.samples import sample_numbers
from captum_tgrad.decomposition.places.coordinates import SAMPLES, Coordinates
from captum_tgrad.decomposition.places.places import (
    Places,
    has_places,
    make_places,
    samples_mixed,
    samples_only,
)
from captum_tgrad.decomposition.precision import without_nan

Sources = Mapping[Tensor, Places]
"""The tensors from which a hidden result was computed, with their places."""


def places_of_result(
    tensor: Tensor, sources: Sources, samples: int, path: str
) -> tuple[Places, bool]:
    """The places of a hidden result, and whether they are those of all sources.

    ``path`` is that of the module that ran.
    """
    source, places = max(sources.items(), key=lambda each: each[0].numel())
    same = source.shape == tensor.shape and all(each is places for each in sources.values())
    kept = samples_only(places)
    if same and _keeps_samples(tensor, sources, kept, samples):
        if _keeps_places(tensor, sources, places):
            return places, True
    else:
        for dim in range(max(tensor.dim(), 1)):  # those of an ensemble are along the second one
            kept = _samples_along(dim, tensor, places)
            if _keeps_samples(tensor, sources, kept, samples):
                break
        else:
            kept = samples_mixed(tensor.shape, sources.values())
    if any(map(has_places, sources.values())):
        kept = lost_in_hidden(tensor.shape, kept, path)
    return kept, False


def is_constant(tensor: Tensor, sources: Sources) -> bool:
    """Whether a result has no gradient at any source, because its backward returns None."""
    everything = torch.ones((), dtype=torch.bool, device=tensor.device)
    return _gradient_of(tensor, sources, everything) is None


def _keeps_samples(tensor: Tensor, sources: Sources, places: Places, samples: int) -> bool:
    """Whether each sample of the output depends on the same sample of the sources only.

    Each bit of the sample numbers splits the batch in two parts, which must be independent.
    """
    if samples == 1:
        return True
    own = sample_numbers(places, samples).to(tensor.device)
    others = [sample_numbers(each, samples).to(source.device) for source, each in sources.items()]
    for bit in range((samples - 1).bit_length()):
        for side in (0, 1):
            gradients = _gradient_of(tensor, sources, own >> bit & 1 == side)
            if gradients is None:
                return False
            for gradient, sample in zip(gradients, others, strict=True):
                if bool(((sample >> bit & 1 != side) & (gradient != 0)).any()):
                    return False
    return True


def _keeps_places(tensor: Tensor, sources: Sources, places: Places) -> bool:
    """Whether elements depend on the elements at the same position, as far as gradients show.

    Along each dimension, at least two thirds of the gradient of every other half, and of every
    other quarter, have to be in the same part of the sources.
    """
    dims = {dim for axis, coords in places.pairs if axis.input != SAMPLES for dim in coords.dims}
    for dim in dims:
        size = tensor.shape[dim]
        for parts in {2, min(4, size)}:
            chosen = torch.arange(size, device=tensor.device) * parts // size % 2 == 0
            mask = chosen.reshape(-1, *[1] * (tensor.dim() - dim - 1))
            gradients = _gradient_of(tensor, sources, mask)
            if gradients is None:
                return False
            for gradient in gradients:
                mass = gradient.abs().movedim(dim, 0).reshape(size, -1).sum(1)
                if bool(mass[chosen].sum() < 2 * mass[~chosen].sum()):
                    return False
    return True


def _samples_along(dim: int, tensor: Tensor, places: Places) -> Places:
    """Places with the samples of a source along a dimension of a tensor, if the size fits."""
    for axis, own in places.coordinates.items():
        if axis.input == SAMPLES and tensor.dim() and len(own) == 1 and len(own[0].dims) < 2:
            size = own[0].index.numel()
            if size in (1, tensor.shape[dim]):
                sizes = [size if each == dim else 1 for each in range(tensor.dim())]
                index = own[0].index.reshape(sizes)
                return make_places(tensor.shape, [(axis, Coordinates(index, own[0].cells))])
    return make_places(tensor.shape)


def _gradient_of(tensor: Tensor, sources: Sources, part: Tensor) -> list[Tensor] | None:
    """The gradients of a part of an output at its sources, 0 for NaN; None if all are None."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(tensor.shape, generator=generator, device="cpu").add_(0.5).to(tensor) * part
    gradients = torch.autograd.grad(
        tensor, list(sources), probe, retain_graph=True, allow_unused=True
    )
    if all(gradient is None for gradient in gradients):
        return None
    return [
        torch.zeros_like(source) if gradient is None else without_nan(gradient)
        for gradient, source in zip(gradients, sources, strict=True)
    ]
