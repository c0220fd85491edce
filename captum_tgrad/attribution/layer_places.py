"""The places of the elements of a layer's activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from captum_tgrad._support.input_checks import check_channel_dim
from captum_tgrad.decomposition.maps.reduction import reduction
from captum_tgrad.decomposition.maps.samples import sample_numbers
from captum_tgrad.decomposition.places.cells import even_cells
from captum_tgrad.decomposition.places.coordinates import (
    LOST,
    SAMPLES,
    Axis,
    Coordinates,
    compacted,
    whole_axis,
)
from captum_tgrad.decomposition.places.origin import places_of
from captum_tgrad.decomposition.places.places import Places, input_places, make_places


def layer_places(tensor: Tensor, samples: int, layer: nn.Module, channel_dim: int | None) -> Places:
    """The places of the activation's elements on the inputs, or on the activation itself.

    Places cannot be followed from integers: those of an embedding are its own dimensions.
    """
    known = places_of(tensor)
    batch = Axis(SAMPLES, 0, samples)
    if known is not None and (samples == 1 or known.knows_samples):
        axes = [axis for axis in known.coordinates if axis.is_spatial]
        is_lost = any(axis.input == LOST for axis in known.coordinates)
        by = reduction(known, axes, samples)
        if not by.has_unknown_samples and by.all_placed and not is_lost:
            return known
        own = known.coordinates.get(batch, (whole_axis([1] * tensor.dim(), 0),))
        return make_places(
            tensor.shape, [*((batch, coords) for coords in own), *_own_positions(known, samples)]
        )
    if known is None and tensor.dim() and len(tensor) == samples:
        check_channel_dim(channel_dim, tensor, f"the activation of layer ({type(layer).__name__})")
        return input_places(tensor.shape, 0, channel_dim)
    what = f"layer ({type(layer).__name__}) has an activation of shape {tuple(tensor.shape)}"
    if known is None:
        raise ValueError(
            f"{what}: its first dimension must be the batch, of size {samples}. Pass another layer,"
            " or explain the activation as inputs of TGradAttribution, with a forward_func that"
            " takes it batch first, such as inputs_embeds of a text model."
        )
    raise ValueError(
        f"{what}, which mixes the {samples} samples of the batch. Pass another layer, or explain"
        " the samples one at a time."
    )


def without_channels(places: Places) -> Places:
    """The places without the channels of the inputs."""
    pairs = [(axis, coords) for axis, coords in places.pairs if axis.is_place or axis.input < 0]
    return make_places(places.shape, pairs)


def _own_positions(known: Places, samples: int) -> list[tuple[Axis, Coordinates | None]]:
    """Positions on the activation itself, in the dimensions along which those on inputs change.

    They tell a class token, which has no place on the image, apart from the patches.
    """
    shape, sample = known.shape, sample_numbers(known, samples)
    of_samples = [dim for dim, size in enumerate(sample.shape) if size != 1]
    positions = [coords for axis, coords in known.pairs if axis.is_spatial or axis.input == LOST]
    dims = {dim for coords in positions for dim in coords.dims}
    own: list[tuple[Axis, Coordinates | None]] = [
        (Axis(0, dim, shape[dim]), whole_axis(shape, dim))
        for dim in sorted(dims.difference(of_samples))
    ]
    if not dims.intersection(of_samples):
        return own
    # One dimension holds the windows of all samples: they are numbered within each sample.
    is_of = sample.reshape(-1, 1) == torch.arange(samples, device="cpu")
    count = shape[of_samples[0]] // samples
    if len(of_samples) > 1 or not bool((is_of.sum(0) == count).all()):
        return []
    number = (is_of.cumsum(0) * is_of).sum(1).reshape(sample.shape)
    return [*own, (Axis(0, of_samples[0], count), compacted(number, even_cells(count, count)))]
