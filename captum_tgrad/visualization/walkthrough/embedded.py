"""The photo and the map over it, as images within a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image, ImageColor

from captum_tgrad.visualization.image_arrays import Array
from captum_tgrad.visualization.map_values import limit_of

RAMPS = {
    "for": ("#050302", "#3d1602", "#8c3103", "#d95f0e", "#fea944", "#fff6c9"),
    "against": ("#040308", "#1d1049", "#40308f", "#6b5cd3", "#a99ff2", "#efecff"),
}
"""The colors of evidence, from 0 to the strongest: orange and violet, as in all figures. Both start
at black, so that a place without evidence only darkens the photo."""

_QUALITY = 88
_MOST_PIXELS = 896


def photo_of(picture: Array) -> str:
    """An image, (H, W, 3) in [0, 1], as a data URI; large ones are downsized."""
    photo = Image.fromarray((picture * 255).round().astype("uint8"))
    photo.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
    return _uri(photo)


def still_of(values: Array) -> str:
    """A map of evidence, (H, W), in the colors that the page draws it in, as a data URI."""
    stops = np.array([ImageColor.getrgb(color) for color in RAMPS["for"]], dtype=float)
    place = values / limit_of([values]) * (len(stops) - 1)
    channels = [np.interp(place, range(len(stops)), stops[:, channel]) for channel in range(3)]
    drawn = np.stack(channels, axis=-1).round().astype("uint8")
    return _uri(Image.fromarray(drawn))


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
