"""Images in rows, and their maps in columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import SubFigure
from torch import Tensor

from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.visualization.panels import (
    NORMAL,
    draw_map,
    draw_picture,
    label_map,
    wrapped,
)

_LETTERS_PER_INCH = 9


class Column(NamedTuple):
    """The maps of a method or a step, one for each image.

    Attributes:
        title: The name of the method or the step.
        maps: ``(H, W)`` each.
        limits: For each map the value with the strongest color.
        signed: Whether the maps have diverging colors.
    """

    title: str
    maps: Sequence[Array]
    limits: Sequence[float]
    signed: bool


def draw_grid(
    part: SubFigure,
    columns: Sequence[Column],
    pictures: Sequence[Array] | None,
    labels: Sequence[object] | Tensor | None,
    across: int,
    side: float,
    overlay: bool = False,
) -> None:
    """Draws the images, if any, in the first column, and the maps in the others.

    ``across`` columns fit beside each other; the others continue below. ``labels`` stand beside the
    rows. A panel is ``side`` inches wide. With ``overlay``, maps are drawn over their images.
    """
    titles = [*(() if pictures is None else ("image",)), *(column.title for column in columns)]
    rows, letters = len(columns[0].maps), round(side * _LETTERS_PER_INCH)
    blocks = math.ceil(len(titles) / across)
    grid = part.subplots(blocks * rows, across, squeeze=False)
    groups = [group for block in range(blocks) for group in grid[block * rows :][:rows].T]
    listed = labels.tolist() if isinstance(labels, Tensor) else labels or ()
    for group in groups[::across]:
        for axes, label in zip(group, listed, strict=False):
            axes.set_ylabel(wrapped(str(label), letters), fontsize=NORMAL)
    for group in groups[len(titles) :]:
        for axes in group:
            axes.remove()
    for group, title in zip(groups, titles, strict=False):
        group[0].set_title(wrapped(title, letters), fontsize=NORMAL)
    if pictures is not None:
        for axes, picture in zip(groups.pop(0), pictures, strict=True):
            draw_picture(axes, picture)
    for group, column in zip(groups, columns, strict=False):
        for number, (axes, values) in enumerate(zip(group, column.maps, strict=True)):
            under = pictures[number] if overlay and pictures is not None else None
            draw_map(axes, values, column.limits[number], column.signed, under)
            label_map(axes, values)
