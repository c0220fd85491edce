"""Several methods side by side, on one image or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from matplotlib.figure import Figure
from torch import Tensor

from captum_tgrad._support.arguments import check_choice
from captum_tgrad.visualization.arguments import by_method, one_each
from captum_tgrad.visualization.image_arrays import Array, Images, Numbers, as_images
from captum_tgrad.visualization.layout import WIDTH, stacked_parts, write_title
from captum_tgrad.visualization.map_values import as_maps, is_signed, limit_of, warn_if_stretched
from captum_tgrad.visualization.panels import (
    BAR_HEIGHT,
    OVERLAY_OPACITY,
    Column,
    color_bars,
    draw_grid,
)

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
    labels: Sequence[object] | Tensor | None = None,
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
        labels: A name or number for each image, such as its class.
        title: The title of the figure.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

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
            "attributions must be a dict by method name, such as {'T-Grad': attributions}, got"
            f" {type(attributions).__name__}"
        )
    attributions = by_method(attributions, "attributions")
    check_choice(scale, Scale, "scale")
    pictures = as_images(images, mean, std)
    labels = one_each(labels, len(pictures), "labels")
    sizes = [(len(picture), picture.shape[1]) for picture in pictures]
    maps = {
        name: as_maps(each, sizes, f"attributions[{name!r}]") for name, each in attributions.items()
    }
    for name, each in attributions.items():
        warn_if_stretched(each, sizes, f"attributions[{name!r}]")
    columns = [Column(name, each, is_signed(each)) for name, each in _scaled(maps, scale).items()]
    # As few blocks as are legible, filled as evenly as possible.
    most = _ACROSS_FOR_ONE_PICTURE if len(pictures) == 1 else _MOST_ACROSS
    blocks = math.ceil((1 + len(columns)) / most)
    across = math.ceil((1 + len(columns)) / blocks)
    side = min(WIDTH / across, _LARGEST_PANEL)
    height, width = sizes[0]
    panels_height = blocks * (len(pictures) * (side * height / width + 0.05) + _TITLE_HEIGHT)
    upper, lower = stacked_parts(max(side * across, _LEAST_WIDTH), [panels_height, BAR_HEIGHT])
    draw_grid(upper, columns, pictures, labels, across, side, overlay)
    kinds = sorted({column.signed for column in columns})
    color_bars(lower, kinds, _MEANING[scale], OVERLAY_OPACITY if overlay else None)
    write_title(upper, title)
    return upper.figure


def _scaled(maps: Mapping[str, list[Array]], scale: Scale) -> dict[str, list[Array]]:
    """The maps of each method, divided by the value with the strongest color."""
    if scale == "map":
        return {name: [one / limit_of([one]) for one in each] for name, each in maps.items()}
    if scale == "method":
        limits = {name: limit_of(each) for name, each in maps.items()}
    else:
        limits = dict.fromkeys(maps, limit_of([one for each in maps.values() for one in each]))
    return {name: [one / limits[name] for one in each] for name, each in maps.items()}
