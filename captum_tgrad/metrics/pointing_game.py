"""The pointing game: whether the maximum of a map is on the object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_number
from captum_tgrad.metrics.engine.checks import NanPolicy
from captum_tgrad.metrics.engine.importance import ChannelReduce, InterpolateMode
from captum_tgrad.metrics.engine.localizing import Measure, localization_metric
from captum_tgrad.metrics.engine.regions import Regions
from captum_tgrad.metrics.results import PointingGameResult


def _share_of_peaks(maps: Tensor, masks: Tensor) -> Tensor:
    peaks = maps == maps.amax((1, 2), keepdim=True)
    hits = (peaks & masks).sum((1, 2))
    return hits.to(maps.dtype) / peaks.sum((1, 2))


def _widened(masks: Tensor, tolerance: float) -> Tensor:
    """The masks and all pixels less than ``tolerance`` pixels away from them."""
    near = masks.clone()
    height, width = masks.shape[1:]
    before = torch.nn.functional.pad(masks.int().cumsum(2), (1, 0))  # pixels left of a column
    here = torch.arange(width, device=masks.device)
    # The disk, row by row: pixels within ``columns`` columns, ``rows`` rows below or above.
    for rows in range(min(math.ceil(tolerance), height)):
        columns = math.ceil(math.sqrt(tolerance**2 - rows**2)) - 1
        first, end = (here - columns).clamp_min(0), (here + columns + 1).clamp_max(width)
        wide = before[..., end] > before[..., first]
        near[:, rows:] |= wide[:, : height - rows]
        near[:, : height - rows] |= wide[:, rows:]
    return near


@localization_metric(PointingGameResult)
def pointing_game(
    attributions: Tensor | Mapping[str, Tensor],
    regions: Regions,
    *,
    tolerance: float = 15,
    size: tuple[int, int] | None = None,
    channel_dim: int | None = 1,
    channel_reduce: ChannelReduce = "sum",
    interpolate_mode: InterpolateMode = "bilinear",
    nan_policy: NanPolicy = "raise",
) -> Measure:
    """Whether the maximum of each map is on or near the object.

    A pixel hits if it is in the region, or less than ``tolerance`` pixels away from it, as in
    TorchRay (facebookresearch/TorchRay), whose default is also 15 pixels. With ``tolerance=0``, the
    result equals that of Quantus. If several pixels share the maximum, the result is the share of
    them that hit, so a constant map scores its chance level. (TorchRay uses the first of them.
    Quantus counts a hit if any of them hits.) Negative attributions rank lowest.

    All boxes of a sample form one region, like all objects of a class in TorchRay.
    (clovaai/wsolevaluation uses the best box. Its corners are whole pixels, and both are inside the
    box.)

    Source: Zhang, Bargal, Lin, Brandt, Shen and Sclaroff, "Top-down Neural Attention by Excitation
    Backprop", 2018, section 4.

    Args:
        attributions: Attributions of any Captum method for images: ``(N, C, H, W)``, with one
            channel, or with one channel and coarser. For several methods, a dict by method.
        regions: The object. Masks: ``(N, H, W)`` or ``(N, 1, H, W)``, bool or 0 and 1. Boxes:
            ``(x0, y0, x1, y1)`` in pixels, with ``(0, 0)`` at the upper left corner of the image;
            one per sample, ``(N, 4)``, or a list with ``(boxes, 4)`` per sample. A pixel is in a
            box if its center is. Pascal VOC counts pixels from 1: pass its boxes as
            ``(xmin - 1, ymin - 1, xmax, ymax)``.
        tolerance: Pixels closer to the region than this also hit.
        size: Height and width of the images that boxes refer to; required if all attributions are
            coarser. None: those of the attributions.
        channel_dim: The channel dimension of ``attributions``; None if they are ``(N, H, W)``.
        channel_reduce: How channels are reduced: ``"sum"``, the sum of magnitudes ``"abs"``, or
            ``"max"``.
        interpolate_mode: How coarse maps are upsampled, such as ``"bilinear"`` or ``"nearest"``.
        nan_policy: How to treat NaN and inf in a map and empty regions: ``"raise"``, or ``"omit"``:
            this sample is NaN.

    Returns:
        The shares of hits and their chance level; for a dict of attributions, a dict of results.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A shape, a size, a box or a name is invalid, there is NaN or inf, or a region is
            empty. The message names the argument and the sample.

    Example:
        >>> import torch
        >>> maps = torch.zeros(1, 3, 4, 4)
        >>> maps[0, :, 1, 2] = 1
        >>> pointing_game(maps, torch.tensor([[2, 1, 4, 3]]), tolerance=0).pointing_game
        tensor([1.])
    """
    tolerance = check_number(tolerance, "tolerance")
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be 0 pixels or more, got {tolerance}.")
    return Measure(
        _share_of_peaks,
        "all of their pixels are maxima",
        widened=partial(_widened, tolerance=tolerance),
        protocol={"tolerance": tolerance},
    )
