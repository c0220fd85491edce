"""Several methods side by side, on one image or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor

from captum_tgrad.visualization.image_arrays import as_images
from captum_tgrad.visualization.map_values import as_maps, is_signed, limit_of
from captum_tgrad.visualization.panels import (
    BAR_HEIGHT,
    LETTERS_PER_INCH,
    NORMAL,
    OVERLAY_OPACITY,
    WIDTH,
    color_bars,
    draw_map,
    draw_picture,
    label_map,
    stacked_parts,
    wrapped,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from captum_tgrad.visualization.image_arrays import Array, Images, Numbers

Scale = Literal["map", "method", "shared"]

_LEAST_WIDTH = 6.0
_LARGEST_PANEL = 3.2
_TITLE_HEIGHT = 0.45
# The most panels in a row that are legible at the width of a page.
_MOST_ACROSS = 7
_ACROSS_FOR_ONE_PICTURE = 5
_MEANING = {
    "map": "scaled to the 98th percentile of each map",
    "method": "scaled to the 98th percentile of each method",
    "shared": "scaled to the 98th percentile of all maps",
}


def methods_figure(
    images: Images,
    attributions: Mapping[str, Tensor],
    *,
    scale: Scale = "map",
    overlay: bool = True,
    labels: Sequence[str] | None = None,
    title: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Figure:
    """Draws the maps of several methods side by side.

    Rows are images and columns are methods. Methods that do not fit continue below. Maps with
    negative values have diverging colors, others sequential colors. A label marks maps that are 0,
    constant, or nowhere positive.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 1.

    Args:
        images: ``(N, C, H, W)``, ``(C, H, W)`` or Pillow images; see ``as_images``.
        attributions: The attributions by method name, ``(N, C, H, W)``; coarser maps are upsampled.
        scale: ``"map"``: one color scale per map. ``"method"``: one for all maps of a method, to
            compare images. ``"shared"``: one for all maps, for methods with the same unit.
        overlay: Whether to draw the maps over the gray images.
        labels: A name for each image, such as its class.
        title: The title of the figure.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Returns:
        A figure that notebooks display.

    Raises:
        TypeError: ``images`` or ``attributions`` have the wrong type.
        ValueError: ``attributions`` is empty, sizes or numbers differ, ``scale`` is unknown, or
            values are not finite.

    Example:
        >>> import torch
        >>> from captum_tgrad.visualization import methods_figure
        >>> maps = {"T-Grad": torch.rand(2, 3, 8, 8), "Grad-CAM": torch.rand(2, 1, 4, 4)}
        >>> figure = methods_figure(torch.rand(2, 3, 8, 8), maps, labels=["cup", "cat"])
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['image', 'T-Grad', 'Grad-CAM']
    """
    if not isinstance(attributions, Mapping):
        raise TypeError(
            "attributions must be a dict from names of methods to attributions, got"
            f" {type(attributions).__name__}"
        )
    if not attributions:
        raise ValueError("attributions is empty: pass at least one method")
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be 'map', 'method' or 'shared', got {scale!r}")
    pictures = as_images(images, mean, std)
    if labels is not None and len(labels) != len(pictures):
        raise ValueError(f"labels has {len(labels)} names for {len(pictures)} images")
    sizes = [(len(picture), picture.shape[1]) for picture in pictures]
    maps = {
        name: as_maps(each, sizes, f"attributions[{name!r}]") for name, each in attributions.items()
    }
    upper, lower, panels = _grid(pictures, ["image", *maps], labels)
    for axes, picture in zip(panels[0], pictures, strict=True):
        draw_picture(axes, picture)
    limits = _limits(maps, scale)
    for column, (name, of_method) in enumerate(maps.items(), 1):
        signed = is_signed(of_method)
        for number, (axes, values) in enumerate(zip(panels[column], of_method, strict=True)):
            under = pictures[number] if overlay else None
            draw_map(axes, values, limits[name][number], signed, under)
            label_map(axes, values)
    kinds = sorted({is_signed(of_method) for of_method in maps.values()})
    color_bars(lower, kinds, _MEANING[scale], OVERLAY_OPACITY if overlay else None)
    write_title(upper, title)
    return upper.figure


def _grid(
    pictures: Sequence[Array], names: Sequence[str], labels: Sequence[str] | None
) -> tuple[SubFigure, SubFigure, list[list[Axes]]]:
    """The subfigures for panels and color bars, and the axes of each column."""
    columns = _columns_for(len(names), len(pictures))
    blocks = math.ceil(len(names) / columns)
    height, width = pictures[0].shape[:2]
    side = min(WIDTH / columns, _LARGEST_PANEL)
    panels_height = blocks * (len(pictures) * (side * height / width + 0.05) + _TITLE_HEIGHT)
    whole_width = max(side * columns, _LEAST_WIDTH)
    upper, lower = stacked_parts(whole_width, [panels_height, BAR_HEIGHT])
    grid = upper.subplots(blocks * len(pictures), columns, squeeze=False)
    by_column = []
    for index, name in enumerate(names):
        block, column = divmod(index, columns)
        group = list(grid[block * len(pictures) : (block + 1) * len(pictures), column])
        letters = round(side * LETTERS_PER_INCH)
        group[0].set_title(wrapped(name, letters), fontsize=NORMAL)
        if column == 0 and labels is not None:
            for axes, label in zip(group, labels, strict=True):
                axes.set_ylabel(wrapped(label, letters), fontsize=NORMAL)
        by_column.append(group)
    for axes in grid[
        (blocks - 1) * len(pictures) :, len(names) - (blocks - 1) * columns :
    ].flatten():
        axes.remove()
    return upper, lower, by_column


def _columns_for(count: int, pictures: int) -> int:
    """The number of columns: as few blocks as are legible, filled as evenly as possible."""
    most = _ACROSS_FOR_ONE_PICTURE if pictures == 1 else _MOST_ACROSS
    return math.ceil(count / math.ceil(count / most))


def _limits(maps: Mapping[str, Sequence[Array]], scale: Scale) -> dict[str, list[float]]:
    """The value with the strongest color, for each map of each method."""
    if scale == "map":
        return {name: [limit_of([each]) for each in of_method] for name, of_method in maps.items()}
    if scale == "method":
        return {name: [limit_of(each)] * len(each) for name, each in maps.items()}
    limit = limit_of([each for of_method in maps.values() for each in of_method])
    return {name: [limit] * len(of_method) for name, of_method in maps.items()}
