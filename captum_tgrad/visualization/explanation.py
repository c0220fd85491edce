"""One picture beside its map, and under it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure
    from PIL.Image import Image

# Both read the same with every kind of colour vision. The first ends in the colour that stands out
# from a grey picture; the second is white where the attribution is 0.
_SEQUENTIAL = "inferno"
_DIVERGING = "PuOr_r"

_INCHES = (10.5, 4.4)
_OVERLAY_OPACITY = 0.65
# Captum warns of maps below 1e-5; the scale of a map says nothing about whether it is worth a look.
_SCALE = 1e6


def explanation_figure(
    image: Image, attribution: Tensor, title: str | None = None, method: str = "T-Grad"
) -> Figure:
    """Draws a picture, its map, and the map laid over the picture in grey.

    The colours run from 0 to 1, or from -1 to 1 for a map with negative values. 1 is the value
    above which 2% of the attribution lie, so that single pixels do not darken the rest.

    Args:
        image: RGB, what the network saw, not normalised.
        attribution: (H, W), or (C, H, W), which is summed over channels; of the picture's size.
        title: Stands over all three.
        method: Stands over the map.

    Returns:
        A figure that no window and no ``pyplot`` state knows of: save it with ``savefig``.

    Raises:
        ValueError: The sizes differ, or the map has values that are not finite.
    """
    from captum.attr import visualization
    from matplotlib import colormaps
    from matplotlib.colors import Colormap, ListedColormap

    values = _checked_map(image, attribution)
    signed = bool((values < 0).any())
    colours: Colormap = colormaps[_DIVERGING if signed else _SEQUENTIAL]
    heading = method
    if not values.any():
        # Captum cannot scale a map of zeros: draw ones, all in the colour of 0.
        heading = f"{method} (0 everywhere)"
        values = values + 1
        colours = ListedColormap([colours(0.0)])
    sign = "all" if signed else "positive"
    figure, _ = visualization.visualize_image_attr_multiple(
        values[..., None],
        _pixels(image),
        methods=["original_image", "heat_map", "blended_heat_map"],
        signs=[sign] * 3,
        titles=["picture", heading, "map over picture"],
        fig_size=_INCHES,
        use_pyplot=False,
        cmap=colours,
        alpha_overlay=_OVERLAY_OPACITY,
        show_colorbar=True,
    )
    if title:
        figure.suptitle(title, fontsize="x-large")
        figure.tight_layout()
    return _typed(figure)


def _checked_map(image: Image, attribution: Tensor) -> npt.NDArray[np.float64]:
    """Returns the map as (H, W), its largest absolute value scaled to a fixed number."""
    values = attribution.detach().cpu().double()
    if values.dim() == 3:
        values = values.sum(dim=0)
    if values.shape != (image.height, image.width):
        raise ValueError(
            f"attribution has shape {tuple(attribution.shape)}, but the picture is {image.height}"
            f" pixels high and {image.width} wide: give the part of it that the network saw"
        )
    if not values.isfinite().all():
        raise ValueError("attribution has values that are not finite, and cannot be drawn")
    largest = values.abs().max()
    if largest > 0:
        values = values / largest * _SCALE
    array: npt.NDArray[np.float64] = values.numpy()
    return array


def _pixels(image: Image) -> npt.NDArray[np.float64]:
    """Returns (H, W, 3) in [0, 1]: Captum takes whole numbers all below 2 for fractions."""
    import numpy as np

    return np.asarray(image.convert("RGB"), dtype=np.float64) / 255


def _typed(figure: Any) -> Figure:
    """Says what Captum, which has no types, returned."""
    from matplotlib.figure import Figure

    if not isinstance(figure, Figure):
        raise TypeError(f"Captum returned {type(figure).__name__} instead of a figure")
    return figure
