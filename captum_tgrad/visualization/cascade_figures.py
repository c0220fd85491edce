"""The figure of the randomization test: the maps at each step, and their similarity."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from captum_tgrad.sanity_checks.cascade import RandomizationStep
from captum_tgrad.visualization.arguments import check_one_each, number_or_names, one_each
from captum_tgrad.visualization.image_arrays import Images, Numbers, as_images
from captum_tgrad.visualization.layout import WIDTH, stacked_parts, write_title
from captum_tgrad.visualization.map_values import as_maps, is_signed, limit_of
from captum_tgrad.visualization.panels import BAR_HEIGHT, Column, color_bars, draw_grid
from captum_tgrad.visualization.similarity_figures import (
    checked_steps,
    draw_similarity,
    evenly_spaced,
)

_TITLE_HEIGHT = 0.75
_CURVES_HEIGHT = 3.0


def cascade_figure(
    steps: Iterable[RandomizationStep],
    images: Images | None = None,
    *,
    columns: int | Sequence[str] = 7,
    labels: Sequence[object] | Tensor | None = None,
    title: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Figure:
    """Draws the maps under parameter randomization, and their similarity to the first.

    Rows are images. Columns are steps, starting with the trained network. Each map has its own
    color scale. The plots below show the similarities of all steps, averaged over the images; their
    ticks are at the steps shown above.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 6, after Adebayo et al., "Sanity Checks for
    Saliency Maps".

    Args:
        steps: The steps of ``captum_tgrad.sanity_checks.cascading_randomization`` for images.
        images: The explained images, ``(N, C, H, W)`` or Pillow images; see ``as_images``.
            None: maps only.
        columns: The number of steps to show, evenly spaced from the first to the last; or the names
            of layers.
        labels: A name or number for each image, such as its class.
        title: The title of the figure.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Raises:
        TypeError: ``steps`` or ``columns`` has the wrong type.
        ValueError: ``steps`` is empty, a layer is unknown, or numbers or sizes do not match.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.sanity_checks import cascading_randomization
        >>> from captum_tgrad.visualization import cascade_figure
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)
        ... )
        >>> images = torch.rand(2, 3, 8, 8)
        >>> steps = cascading_randomization(model, TGradAttribution, images, target=1)
        >>> [axes.get_title() for axes in cascade_figure(steps, images).axes[:4]]
        ['image', 'trained', '2', '0']
    """
    steps = checked_steps(steps)
    shape = steps[0].map.shape
    if len(shape) != 4:
        raise ValueError(
            f"steps have maps of shape {tuple(shape)}, but only maps of images (N, 1, H, W) can be"
            " drawn: use similarity_figure for others"
        )
    pictures = None if images is None else as_images(images, mean, std)
    samples, _, height, width = shape
    if pictures is not None:
        check_one_each(pictures, samples, "images")
    labels = one_each(labels, samples, "labels")
    chosen = _chosen(steps, columns)
    shown = [steps[number] for number in chosen]
    maps = [as_maps(step.map, [(height, width)] * samples, "steps") for step in shown]
    signed = any(is_signed(of_step) for of_step in maps)
    of_steps = [
        Column(step.layer or "trained", [each / limit_of([each]) for each in of_step], signed)
        for step, of_step in zip(shown, maps, strict=True)
    ]
    across = len(of_steps) + (pictures is not None)
    side = WIDTH / max(across, 4)
    panels_height = samples * (side * height / width + 0.05) + _TITLE_HEIGHT
    upper, middle, lower = stacked_parts(WIDTH, [panels_height, BAR_HEIGHT, _CURVES_HEIGHT])
    draw_grid(upper, of_steps, pictures, labels, across, side)
    color_bars(middle, [signed], "scaled to the 98th percentile of each map")
    draw_similarity(lower, {"": steps}, chosen)
    write_title(upper, title)
    return upper.figure


def _chosen(steps: Sequence[RandomizationStep], columns: int | Sequence[str]) -> list[int]:
    wanted = number_or_names(columns, "columns")
    if isinstance(wanted, int):
        if wanted < 2:
            raise ValueError(f"columns must be 2 or more, got {wanted}")
        return evenly_spaced(len(steps), wanted)
    layers = [step.layer for step in steps]
    missing = [name for name in wanted if name not in layers]
    if missing:
        raise ValueError(
            f"columns is {', '.join(map(repr, missing))}: pass a number or a list of randomized"
            " layers"
        )
    return [number for number, layer in enumerate(layers) if layer is None or layer in wanted]
