"""Places after an operation that moves elements to positions given by values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.places.box_pooling import pooled_in_boxes
from captum_tgrad.decomposition.places.coordinates import from_borders
from captum_tgrad.decomposition.places.moving_places import after
from captum_tgrad.decomposition.places.origin import claims_of, places_of
from captum_tgrad.decomposition.places.places import FoundAxes, Places, places


def accumulated(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after ``index_add`` and ``scatter_add``, whose elements are sums."""
    tensor, dim, index, source = (call.bound[name] for name in ("input", "dim", "index", "src"))
    (output,) = outputs
    index = index.detach().cpu()
    if call.name == "index_add":
        index = index.reshape([-1 if d == dim % source.dim() else 1 for d in range(source.dim())])
    index = index.expand(source.shape)
    found: FoundAxes = {}
    for operand in (tensor, source):
        for axis, claim in claims_of(operand):
            low, high = (border.expand(operand.shape) for border in claim.borders())
            if operand is source:
                empty = torch.full(tensor.shape, torch.inf, dtype=torch.float64, device="cpu")
                low = empty.scatter_reduce(dim, index, low, "amin")
                high = (-empty).scatter_reduce(dim, index, high, "amax")
            found.setdefault(axis, []).append(from_borders(low, high, axis))
    return [places(output.shape, found)]


def by_indices(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places of values and indices that an operation selects along a dimension."""
    tensor, dim = call.bound["input"], call.bound["dim"]
    indices = outputs[1].detach()
    (found,) = after(lambda t: [t[0].gather(dim, t[1])], [places_of(tensor), None], [
        tensor, indices,
    ])  # fmt: skip
    return [found for _ in outputs]


def sampled(call: Call, outputs: Sequence[Tensor]) -> list[Places]:
    """Places after interpolation at given points: each result is at the nearest element."""
    bound = call.bound
    image, grid = bound["input"], bound["grid"].detach().float().cpu()
    corners = bool(bound["align_corners"])

    def run(indices: list[Tensor]) -> list[Tensor]:
        return [F.grid_sample(indices[0], grid, "nearest", "zeros", align_corners=corners)]

    return after(run, [places_of(image)], [image])


BY_VALUE = (accumulated, by_indices, sampled, pooled_in_boxes)
"""Rules that read values, not only shapes and places."""
