"""Images, maps, grids of maps, and color bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure, SubFigure

from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.visualization.layout import NORMAL, SMALL, wrapped
from captum_tgrad.visualization.map_values import note_on

# Both are legible with every kind of color vision. The first ends in a color that stands out from
# a gray image; the second is white where the attribution is 0.
_SEQUENTIAL = "inferno"
_DIVERGING = "PuOr_r"

OVERLAY_OPACITY = 0.65
"""The opacity of a map over its image."""

SIDES = "against the class   |   for the class"
"""The meaning of diverging colors."""

BAR_HEIGHT = 0.75
"""The height of a part with color bars, in inches."""

# Letters per inch in the title of a column.
_COLUMN_LETTERS = 9


def _colors(signed: bool) -> Colormap:
    """The colors of maps: diverging where there is evidence against the class."""
    return colormaps[_DIVERGING if signed else _SEQUENTIAL]


def draw_picture(axes: Axes, picture: Array) -> None:
    """Draws an image, (H, W, 3) in [0, 1]."""
    axes.imshow(picture, origin="upper")
    axes.set(xticks=[], yticks=[])


def draw_map(axes: Axes, values: Array, signed: bool, picture: Array | None = None) -> None:
    """Draws a map, alone or over its gray image; 1 and -1 have the strongest colors."""
    if picture is not None:
        axes.imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=1, origin="upper")
    # Clipped first, so that the pixels above 1 do not brighten their neighbors.
    axes.imshow(
        values.clip(-1, 1),
        cmap=_colors(signed),
        vmin=-1 if signed else 0,
        vmax=1,
        alpha=None if picture is None else OVERLAY_OPACITY,
        origin="upper",
    )
    axes.set(xticks=[], yticks=[])


class Column(NamedTuple):
    """The maps of a method or a step, one for each image.

    Attributes:
        title: The name of the method or the step.
        maps: ``(H, W)`` each, as for ``draw_map``.
        signed: Whether the maps have diverging colors.
    """

    title: str
    maps: Sequence[Array]
    signed: bool


def draw_grid(
    part: SubFigure,
    columns: Sequence[Column],
    pictures: Sequence[Array] | None,
    labels: Sequence[object],
    across: int,
    side: float,
    overlay: bool = False,
) -> None:
    """Draws the images, if any, in the first column, and the maps in the others.

    ``across`` columns fit beside each other; the others continue below. ``labels``, some of which
    may be None, stand beside the rows. A panel is ``side`` inches wide. With ``overlay``, maps are
    drawn over their images.
    """
    titles = [*(() if pictures is None else ("image",)), *(column.title for column in columns)]
    rows, letters = len(columns[0].maps), round(side * _COLUMN_LETTERS)
    blocks = math.ceil(len(titles) / across)
    grid = part.subplots(blocks * rows, across, squeeze=False)
    groups = [group for block in range(blocks) for group in grid[block * rows :][:rows].T]
    for group in groups[::across]:
        for axes, label in zip(group, labels, strict=True):
            if label is not None:
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
            draw_map(axes, values, column.signed, under)
            if note := note_on(values):
                place = {"transform": axes.transAxes, "ha": "center", "fontsize": SMALL}
                box = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 2}
                axes.text(0.5, 0.03, note, color="black", bbox=box, **place)


def color_bars(
    figure: SubFigure, kinds: Sequence[bool], meaning: str, opacity: float | None = None
) -> None:
    """Fills a part of a figure with color bars: for signed maps (True), others (False) or both."""
    for signed, axes in zip(kinds, figure.subplots(1, len(kinds), squeeze=False)[0], strict=True):
        label = f"{SIDES}, {meaning}" if signed else meaning
        color_bar(figure, signed, label, opacity, cax=axes, orientation="horizontal")


def color_bar(
    figure: Figure | SubFigure, signed: bool, label: str, opacity: float | None, **where: Any
) -> None:
    """Draws the scale of maps, its ends and 0; ``where`` are arguments of ``Figure.colorbar``."""
    lowest = -1 if signed else 0
    bar = figure.colorbar(
        ScalarMappable(Normalize(lowest, 1), _colors(signed)),
        alpha=opacity,
        ticks=[lowest, (lowest + 1) / 2, 1],
        format="{x:g}",
        **where,
    )
    bar.ax.tick_params(labelsize=SMALL)
    bar.set_label(label, fontsize=SMALL)
