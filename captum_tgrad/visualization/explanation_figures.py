"""An image, its map, and the map over the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from captum_tgrad._support.arguments import check_number
from captum_tgrad.visualization.arguments import boxes_of_pictures, one_each, parts_seen
from captum_tgrad.visualization.image_arrays import Array, Images, Numbers, as_images
from captum_tgrad.visualization.layout import NORMAL, WIDTH, write_title
from captum_tgrad.visualization.map_values import (
    as_maps,
    is_signed,
    limit_of,
    note_on,
    warn_if_stretched,
)
from captum_tgrad.visualization.notebook_figure import new_figure
from captum_tgrad.visualization.panels import (
    OVERLAY_OPACITY,
    SIDES,
    color_bar,
    draw_map,
    draw_picture,
)
from captum_tgrad.zoo.classifier import Box

# The height of titles and color bars in inches, for panels side by side and stacked.
_BESIDE, _UNDER = 0.8, 1.9
# Panels are stacked if the images are wider than this, relative to their height.
_WIDE = 2.2
# The maximum height of panels side by side, relative to their width.
_HIGHEST = 2.0
# The minimum height of stacked panels in inches, so that titles and color bars leave them room.
_LOWEST = 1.0
# The gray outside of the part that the network saw, and the share of its contrast that a photo
# keeps there.
_GRAY, _CONTRAST = 0.75, 0.35
# White with a black outline is visible on every color.
_LINE: dict[str, Any] = {
    "linewidth": 1.6,
    "path_effects": [withStroke(linewidth=3.5, foreground="black")],
}


def explanation_figure(
    image: Images,
    attribution: Tensor,
    title: str | Sequence[str] | None = None,
    method: str = "T-Grad",
    *,
    class_name: str | Sequence[str] | None = None,
    probability: float | Tensor | Sequence[float] | None = None,
    residual: float | Tensor | Sequence[float] | None = None,
    boxes: Tensor | Sequence[Any] | None = None,
    seen: Sequence[int] | Sequence[Sequence[int]] | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Figure:
    """Draws an image, its map, and the map over the gray image; a batch has one row per image.

    Colors range from 0 to 1, or from -1 (against the class) to 1 (for it) if the map has negative
    values. 1 is the 98th percentile by attribution mass, so single pixels do not darken the rest. A
    label marks maps that are 0, constant, or nowhere positive.

    Args:
        image: The explained image, ``(N, C, H, W)`` or ``(C, H, W)`` with 1 or 3 channels, or
            Pillow images; for the conversion to [0, 1], see ``as_images``.
        attribution: ``(N, C, H, W)``, for one image also ``(C, H, W)`` or ``(H, W)``. It is
            summed over channels, and upsampled if it is coarser than the image.
        title: The title; for a batch, one per image. None: the class name, probability and
            residual.
        method: The title of the map.
        class_name: The name of the explained class; for a batch, one per image.
        probability: The probability of the class, in [0, 1]; for a batch, ``(N,)``.
        residual: The convergence delta, in units of the output; for a batch, ``(N,)``.
        boxes: Object boxes, ``(x0, y0, x1, y1)`` in pixels of the picture: ``(N, 4)``, or a list
            with ``(boxes, 4)`` for each image. The figure also marks the maximum of the map, as for
            ``captum_tgrad.metrics.pointing_game``.
        seen: The part of ``image`` that the network saw and the attribution covers: left, top,
            right and bottom in pixels of the image. The rest is gray. For a batch, one per image.
            None: the whole image.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: Sizes or numbers differ, ``probability`` is not in [0, 1], ``seen`` is not
            within the image, or values are not finite.

    Example:
        >>> import torch
        >>> from captum_tgrad.visualization import explanation_figure
        >>> figure = explanation_figure(
        ...     torch.rand(3, 8, 8), torch.rand(3, 8, 8), class_name="cup", probability=0.9
        ... )
        >>> figure.get_suptitle()
        'cup, probability 90.0%'
    """
    pictures = as_images(image, mean, std)
    count = len(pictures)
    sizes = [picture.shape[:2] for picture in pictures]
    parts = parts_seen(seen, sizes)
    sizes_seen = [(bottom - top, right - left) for left, top, right, bottom in parts]
    maps = as_maps(attribution, sizes_seen, "attribution", reduce=seen is not None)
    if seen is None:
        warn_if_stretched(attribution, sizes, "attribution")
    titles = [
        given or default_title(*known)
        for given, *known in zip(
            one_each(title, count, "title"),
            one_each(class_name, count, "class_name"),
            one_each(probability, count, "probability"),
            one_each(residual, count, "residual"),
            strict=True,
        )
    ]
    regions = boxes_of_pictures(boxes, sizes)
    shapes = [height / width for height, width in sizes]
    below = max(shapes) < 1 / _WIDE
    height = (
        max(3 * WIDTH * max(shapes), _LOWEST) + _UNDER
        if below
        else WIDTH / 3 * min(max(shapes), _HIGHEST) + _BESIDE
    )
    figure = new_figure(WIDTH, height * count)
    rows: Any = [figure] if count == 1 else figure.subfigures(count, 1)
    for row, picture, values, part, region, text in zip(
        rows, pictures, maps, parts, regions, titles, strict=True
    ):
        panels = list(row.subplots(3, 1) if below else row.subplots(1, 3))
        _draw_panels(row, panels, picture, values, part, region, method)
        write_title(row, text)
    return figure


def default_title(class_name: Any, probability: Any, residual: Any) -> str:
    """The default title of an explanation.

    Example:
        >>> default_title("espresso", 0.951, 2e-6)
        'espresso, probability 95.1%, residual +2.0e-06'
    """
    parts = []
    if class_name is not None:
        parts.append(str(class_name))
    if probability is not None:
        number = check_number(probability, "probability")
        # Rounded, because a sum of probabilities may exceed 1 by its rounding errors. NaN, which
        # is that of a network whose output is NaN, is drawn.
        if round(number, 3) < 0 or round(number, 3) > 1:
            raise ValueError(f"probability must be from 0 to 1, got {number}")
        parts.append(f"probability {number:.1%}")
    if residual is not None:
        parts.append(f"residual {check_number(residual, 'residual'):+.1e}")
    return ", ".join(parts)


def _draw_panels(
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
