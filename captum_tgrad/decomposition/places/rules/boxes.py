"""Places after pooling inside of boxes, as the second stage of a detector does."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.places.cells import SLACK
from captum_tgrad.decomposition.places.coordinates import Axis, Coordinates, from_borders
from captum_tgrad.decomposition.places.origin import coordinates_of
from captum_tgrad.decomposition.places.places import Places, make_places
from captum_tgrad.decomposition.places.regridding import Line
from captum_tgrad.decomposition.places.rules.rule import places_rule

# Each box has cells of its own, and a map has the cells of all boxes along both axes.
_MOST_BOXES = 16


@places_rule(is_cached=False)
def pooled_in_boxes(call: Call) -> list[Places]:
    """``torchvision.ops.roi_align`` and ``roi_pool``: the cells of each box divide it evenly.

    Raises:
        NoRuleError: There are too many boxes, or the input is laid out in a way that has no rows
            and columns of its own.
    """
    bound, output = call.bound, call.returned[0]
    tensor, boxes = bound["input"], bound["rois"].detach().double().cpu()
    if len(boxes) > _MOST_BOXES:
        raise NoRuleError
    image, corners = boxes[:, 0].long(), boxes[:, 1:] * bound["spatial_scale"]
    if call.name == "roi_pool":  # whole pixels, including those at the corners
        corners = (corners + 0.5).floor() + torch.tensor([-0.5, -0.5, 0.5, 0.5], device="cpu")
    elif bound["aligned"]:
        corners = corners - 0.5

    def pooled(axis: Axis, coords: Coordinates) -> Coordinates | None:
        if not {2, 3} & set(coords.dims):
            index = coords.index[image] if 0 in coords.dims else coords.index
            return coords.moved(index)
        if len(coords.dims) > 1:
            raise NoRuleError
        dim = coords.dims[0]
        start, stop = corners[:, 3 - dim], corners[:, 5 - dim]
        if not bound.get("aligned"):
            stop = torch.maximum(stop, start + 1)  # as torchvision has it
        shares = torch.arange(output.shape[dim] + 1, device="cpu") / output.shape[dim]
        ends = start[:, None] + (stop - start)[:, None] * shares
        return _between(coords, ends, dim, axis)

    pairs = [(axis, pooled(axis, coords)) for axis, coords in coordinates_of(tensor)]
    return [make_places(output.shape, pairs)] * len(call.returned)


def _between(coords: Coordinates, ends: Tensor, dim: int, axis: Axis) -> Coordinates | None:
    """Cells from one of the ends to the next.

    Args:
        coords: The coordinates of rows or columns.
        ends: Positions among them, ``(boxes, cells + 1)``; row ``i`` reaches from ``i - 0.5`` to
            ``i + 0.5``.
        dim: The dimension that they are along.
        axis: The axis of the input that they are on.
    """
    line = Line.of_cells(coords).take(coords.index.flatten().numpy())
    runs = line.runs(axis)
    if len(runs) != 1:
        raise NoRuleError
    shape = [len(ends), 1, 1, 1]
    shape[dim] = -1
    found = torch.from_numpy(line.at(ends.numpy(), runs[0]))
    one, other = (part.reshape(shape) for part in (found[:, :-1], found[:, 1:]))
    low, high = torch.minimum(one, other), torch.maximum(one, other)
    is_beside = high - low <= SLACK
    return from_borders(low.masked_fill(is_beside, torch.inf), high, axis)
