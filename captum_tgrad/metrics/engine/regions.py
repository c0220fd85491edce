"""Converts regions of objects, masks or boxes in pixels, to boolean masks."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

Regions = Tensor | Sequence[Any]
"""Masks ``(N, H, W)`` or ``(N, 1, H, W)``; boxes ``(N, 4)``, or for each sample ``(boxes, 4)``."""

# Annotations may exceed the border by a pixel because of rounding.
_BEYOND = 1.0


def as_masks(
    regions: Any, samples: int, size: tuple[int, int], device: torch.device, hint: str = ""
) -> Tensor:
    """The mask of the region of every sample, ``(N, H, W)``, bool.

    A pixel is in a box if its center is: in column j, if ``x0 <= j + 0.5 < x1``. ``size`` is height
    and width. Raises TypeError or ValueError for regions that do not fit; the message about a box
    outside of the image ends with ``hint``.
    """
    if size_of_masks(regions) is not None:
        return _checked_masks(regions, samples, size).to(device)
    if not isinstance(regions, (Tensor, Sequence)) or isinstance(regions, str):
        raise TypeError(
            "regions must be a tensor of masks or of boxes, or a list with the boxes of each"
            f" sample, got {type(regions).__name__}. Convert a NumPy array with torch.from_numpy."
        )
    if len(regions) != samples:
        single = ""
        if isinstance(regions, Tensor) and tuple(regions.shape) == size:
            single = " Pass the mask of a single sample as regions.unsqueeze(0)."
        elif is_one_box(regions):
            single = " Pass a single box as [[x0, y0, x1, y1]]."
        raise ValueError(
            f"regions must have one entry for each sample, got {len(regions)} for"
            f" {samples}.{single}"
        )
    masks = [mask_of_boxes(boxes, size, f"regions[{n}]", hint) for n, boxes in enumerate(regions)]
    return torch.stack(masks).to(device)


def mask_of_boxes(boxes: Any, size: tuple[int, int], name: str, hint: str = "") -> Tensor:
    """The mask of the boxes of one image, ``(H, W)``, bool, on the CPU; raises as ``as_masks``."""
    x0, y0, x1, y1 = checked_boxes(boxes, size, name, hint)[:, :, None].unbind(1)
    y, x = (torch.arange(count, dtype=torch.float64, device="cpu") + 0.5 for count in size)
    rows, columns = (y >= y0) & (y < y1), (x >= x0) & (x < x1)
    return (rows[:, :, None] & columns[:, None]).any(0)


def size_of_masks(regions: Any) -> tuple[int, int] | None:
    """Height and width of masks; None for boxes, which have none."""
    if isinstance(regions, Tensor) and regions.dim() in (3, 4):
        return (regions.shape[-2], regions.shape[-1])
    return None


def hint_for_boxes(masks: Any) -> str:
    """What to pass instead of a tensor ``(N, boxes, 4)``, which would be masks."""
    are_boxes: bool = masks.dim() == 3 and masks.shape[2] == 4 and masks.dtype != torch.bool
    return " Pass boxes (N, boxes, 4) as a list, list(regions)." * are_boxes


def is_one_box(boxes: Any) -> bool:
    """Whether they are four numbers: a box without a batch dimension."""
    return len(boxes) == 4 and all(
        isinstance(each, Real) or (isinstance(each, Tensor) and each.dim() == 0) for each in boxes
    )


def checked_boxes(boxes: Any, size: tuple[int, int], name: str, hint: str = "") -> Tensor:
    """The boxes of one image, ``(boxes, 4)``, float64 on the CPU; raises as ``as_masks``."""
    found = numbers_of(boxes, name)
    found = found.reshape(0, 4) if found.numel() == 0 else found
    found = found[None] if found.dim() == 1 else found
    if found.dim() != 2 or found.shape[1] != 4:
        raise ValueError(f"{name} has shape {tuple(found.shape)}; boxes have shape (boxes, 4).")
    x0, y0, x1, y1 = found.unbind(1)
    outside = (found[:, :2] < -_BEYOND).any(1)
    outside |= (x1 > size[1] + _BEYOND) | (y1 > size[0] + _BEYOND)
    of_size = f"height {size[0]} and width {size[1]}"
    relative = (x1 <= 1) & (y1 <= 1) & (found != found.round()).any(1)
    for wrong, what in (
        (~torch.isfinite(found).all(1), "is not finite"),
        (
            (x0 > x1) | (y0 > y1),
            "ends before it starts: pass (x0, y0, x1, y1), not width and height",
        ),
        (relative, "is smaller than a pixel: multiply relative coordinates by width and height"),
        (outside, f"is not in an image of {of_size}: boxes are in its pixels{hint}"),
    ):
        if bool(wrong.any()):
            box = tuple(round(value, 1) for value in found[wrong][0].tolist())
            raise ValueError(f"{name} has a box {box}, which {what}.")
    return found


def numbers_of(region: Any, name: str) -> Tensor:
    """The numbers of a mask or of boxes, float64 on the CPU; raises TypeError for others."""
    try:
        return torch.as_tensor(region, device="cpu").detach().to(torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must hold numbers, (x0, y0, x1, y1) for each box, got"
            f" {type(region).__name__}: {error}"
        ) from error


def _checked_masks(masks: Tensor, samples: int, size: tuple[int, int]) -> Tensor:
    shape, wanted = tuple(masks.shape), (samples, *size)
    if shape not in (wanted, (samples, 1, *size)):
        raise ValueError(
            f"regions has shape {shape}; masks of these attributions must have shape {wanted} or"
            f" {(samples, 1, *size)}."
        )
    inside = masks != 0
    others = masks[inside != masks]
    if others.numel():
        raise ValueError(
            f"regions holds {others[0].item():g}: a mask must be True or 1 in its region and False"
            " or 0 elsewhere. Pass regions == label for one label of a label map."
            f"{hint_for_boxes(masks)}"
        )
    return inside.reshape(wanted)
