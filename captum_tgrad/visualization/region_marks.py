"""Draws object boxes, and the maxima of maps, over images and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from captum_tgrad.metrics.engine.regions import checked_boxes, is_one_box
from captum_tgrad.visualization.image_arrays import Array

# White with a black outline is visible on every color.
_WIDTH = 1.6
_OUTLINE = [withStroke(linewidth=2.2 * _WIDTH, foreground="black")]


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
            f"boxes must be a tensor (N, 4) or a list with one for each image, got {boxes!r}"
        )
    if len(boxes) != len(sizes):
        hint = ": pass a single box as [[x0, y0, x1, y1]]" * is_one_box(boxes)
        raise ValueError(f"boxes has {len(boxes)} entries for {len(sizes)} images{hint}")
    return [
        checked_boxes(each, size, f"boxes[{number}]").numpy()
        for number, (each, size) in enumerate(zip(boxes, sizes, strict=True))
    ]


def draw_boxes(axes: Axes, boxes: Array) -> None:
    """Draws boxes over an image or a map with one unit per pixel."""
    for x0, y0, x1, y1 in boxes:
        box = Rectangle(
            (x0 - 0.5, y0 - 0.5),  # the middle of the first pixel is at 0
            x1 - x0,
            y1 - y0,
            fill=False,
            edgecolor="white",
            linewidth=_WIDTH,
            path_effects=_OUTLINE,
        )
        axes.add_patch(box)


def draw_peak(axes: Axes, values: Array, part: Sequence[int]) -> None:
    """Marks the first maximum of a map, unless the map is constant.

    The map begins at the left and the top of ``part`` of the image.
    """
    if values.min() == values.max():
        return
    row, column = divmod(int(values.argmax()), values.shape[1])
    axes.plot(
        column + part[0],
        row + part[1],
        marker="+",
        color="white",
        markersize=11,
        markeredgewidth=_WIDTH,
        path_effects=_OUTLINE,
    )
