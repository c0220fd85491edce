"""The panels of one explanation: an image, its map, and both, with boxes and gray borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from captum_tgrad._support.arguments import got
from captum_tgrad.metrics.engine.regions import checked_boxes, is_one_box
from captum_tgrad.visualization.arguments import check_one_each
from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.visualization.layout import NORMAL
from captum_tgrad.visualization.map_values import is_signed, limit_of, note_on
from captum_tgrad.visualization.panels import (
    OVERLAY_OPACITY,
    SIDES,
    color_bar,
    draw_map,
    draw_picture,
)
from captum_tgrad.zoo.classifier import Box

# The gray outside of the part that the network saw, and the share of its contrast that a photo
# keeps there.
_GRAY, _CONTRAST = 0.75, 0.35
# White with a black outline is visible on every color.
_LINE: dict[str, Any] = {
    "linewidth": 1.6,
    "path_effects": [withStroke(linewidth=3.5, foreground="black")],
}


def draw_panels(
    part: Figure | SubFigure,
    panels: Sequence[Axes],
    picture: Array,
    values: Array,
    seen: Box,
    boxes: Array | None,
    method: str,
) -> None:
    """Draws the image, its map, and the map over the image, with boxes if there are any.

    ``values`` is the map of the part ``seen`` of the image; outside of it, all panels are gray.
    """
    signed, note = is_signed([values]), note_on(values)
    (height, width), (left, top, right, bottom) = picture.shape[:2], seen
    whole = np.pad(values / limit_of([values]), ((top, height - bottom), (left, width - right)))
    draw_picture(panels[0], picture)
    draw_map(panels[1], whole, signed)
    draw_map(panels[2], whole, signed, picture)
    cropped = whole.shape != values.shape
    # In a constant map, every position is a maximum.
    marked = boxes is not None and values.min() < values.max()
    notes = ("gray: not seen" if cropped else "", note, "+: maximum" if marked else "")
    for axes, under, heading, said in zip(
        panels, (picture, None, picture), ("image", method, "map over image"), notes, strict=True
    ):
        if cropped:
            _gray_out(axes, seen, picture.shape[:2], under)
        for x0, y0, x1, y1 in () if boxes is None else boxes:
            corner = (x0 - 0.5, y0 - 0.5)  # the middle of the first pixel is at 0
            box = Rectangle(corner, x1 - x0, y1 - y0, fill=False, edgecolor="white", **_LINE)
            axes.add_patch(box)
        axes.set_anchor("N")
        axes.set_title(f"{heading} ({said})" if said else heading, fontsize=NORMAL)
    if marked:
        row, column = divmod(int(values.argmax()), values.shape[1])
        for axes in panels[1:]:
            cross = {"marker": "+", "markersize": 11, "markeredgewidth": _LINE["linewidth"]}
            axes.plot(column + left, row + top, color="white", **cross, **_LINE)
    scale = "scaled to the 98th percentile"
    label = f"{SIDES}\n{scale}" if signed else scale
    below = {"location": "bottom", "fraction": 0.05, "pad": 0.02, "aspect": 30}
    color_bar(part, signed, label, None, ax=panels[1], **below)
    color_bar(part, signed, label, OVERLAY_OPACITY, ax=panels[2], **below)


def parts_seen(seen: Any, sizes: Sequence[tuple[int, int]]) -> list[Box]:
    """The seen part of each image; raises ValueError unless the image holds it."""
    if seen is None:
        return [(0, 0, width, height) for height, width in sizes]
    given = [seen] if len(seen) and not isinstance(seen[0], Sequence) else list(seen)
    check_one_each(given, len(sizes), "seen")
    parts = []
    for box, (height, width) in zip(given, sizes, strict=True):
        left, top, right, bottom = (int(side) for side in box) if len(box) == 4 else (0, 0, 0, 0)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"seen must be left, top, right and bottom within the image of {width} x {height}"
                f" pixels, got {tuple(box)}"
            )
        parts.append((left, top, right, bottom))
    return parts


def boxes_of_pictures(boxes: Any, sizes: Sequence[tuple[int, int]]) -> list[Array | None]:
    """The boxes of each image, ``(boxes, 4)``; None without boxes.

    Raises TypeError or ValueError for boxes that ``explanation_figure`` does not accept.
    """
    if boxes is None:
        return [None] * len(sizes)
    if len(sizes) == 1 and isinstance(boxes, Tensor) and boxes.dim() == 2:
        boxes = [boxes]
    if not isinstance(boxes, (Tensor, Sequence)) or isinstance(boxes, str):
        raise TypeError(
            f"boxes must be a tensor (N, 4) or a list with one for each image, got {got(boxes)}"
        )
    if len(boxes) != len(sizes):
        hint = ": pass a single box as [[x0, y0, x1, y1]]" * is_one_box(boxes)
        raise ValueError(
            f"boxes must have one entry per image, got {len(boxes)} for {len(sizes)}{hint}"
        )
    return [
        checked_boxes(each, size, f"boxes[{number}]").numpy()
        for number, (each, size) in enumerate(zip(boxes, sizes, strict=True))
    ]


def _gray_out(axes: Axes, seen: Box, size: tuple[int, ...], picture: Array | None) -> None:
    """Grays out what was not seen, over ``picture``, ``(H, W, 3)`` in [0, 1], if given."""
    left, top, right, bottom = seen
    gray = np.full((*size, 4), _GRAY)
    if picture is not None:
        faint = _CONTRAST * (picture.mean(axis=2, keepdims=True) - 0.5) + _GRAY
        gray[..., :3] = faint.clip(0, 1)
    gray[..., 3] = 1
    gray[top:bottom, left:right, 3] = 0
    axes.imshow(gray, origin="upper")
