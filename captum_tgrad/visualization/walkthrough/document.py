"""The page itself: templates, filled in with texts and images."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence

from matplotlib.colors import LinearSegmentedColormap
from PIL import Image

from captum_tgrad.visualization.html_templates import render, source
from captum_tgrad.visualization.image_arrays import Array, Images, Numbers, image_of_sample
from captum_tgrad.visualization.map_values import as_maps, limit_of
from captum_tgrad.visualization.walkthrough.numbers import (
    LEVELS,
    MOST_CELLS,
    View,
    check_views,
    numbers_of,
    signed,
)

_SCRIPTS = ("maps.js", "state.js", "place.js", "bars.js", "film.js", "page.js")
# The colors of evidence, from 0 to the strongest: orange and violet, as in all figures. Both start
# at black, so that a place without evidence only darkens the photo.
_RAMPS = {
    "for": ("#050302", "#3d1602", "#8c3103", "#d95f0e", "#fea944", "#fff6c9"),
    "against": ("#040308", "#1d1049", "#40308f", "#6b5cd3", "#a99ff2", "#efecff"),
}
_QUALITY = 88
_MOST_PIXELS = 896


def walkthrough_page(
    views: Sequence[View],
    images: Images,
    sample: int = 0,
    *,
    title: str = "An explanation",
    about: str = "",
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> str:
    """A page to walk through a T-Grad explanation term by term, in one HTML file.

    It shows the photo with the map over it, and a bar for each term in forward order. Select a bar
    to show the term's map, play the animation of all terms, or click the photo to list the terms at
    that position. The page needs no server or network. Without JavaScript, it shows a static image
    and all numbers.

    Scores, sums and shares are those of the decomposition. Maps are stored with one byte per cell,
    at their own resolution with at most 224 cells per side.

    Source: Tran, Mai, Le and Le, "T-Grad", eq. 6 and 8, and Fig. 2.

    Args:
        views: The views of the page; the first is shown first.
        images: The explained images, ``(N, C, H, W)``, or ``(C, H, W)`` for one, or Pillow images,
            which may have a higher resolution than the input; see ``as_images``.
        sample: The index of the sample in the batch.
        title: The title of the page.
        about: A subtitle, such as the model and the file.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Returns:
        The HTML.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``views`` is empty, ``sample`` is out of range, the views have different inputs,
            or the number of images differs from the number of samples.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.visualization import View, walkthrough_page
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
        >>> image = torch.rand(1, 3, 8, 8)
        >>> view = View("pixel 0", TGradAttribution(model).decompose(image, target=0))
        >>> walkthrough_page([view], image, title="A convolution").startswith("<!DOCTYPE html>")
        True
    """
    size = check_views(views, sample)
    picture = image_of_sample(images, sample, len(views[0].decomposition.output), mean, std)
    numbers = [numbers_of(view, sample) for view in views]
    terms = numbers[0]["terms"]
    scores = [term["score"] for term in terms]
    top, bottom = max(0.0, *scores), -min(0.0, *scores)
    height = (top + bottom) or 1.0
    shown = views[0].decomposition.map()[sample : sample + 1]
    scripts = [source(name) for name in _SCRIPTS]
    return render(
        "page.html",
        title=title,
        about=about,
        policy=_policy(scripts),
        style=source("page.css"),
        ramps=_RAMPS,
        summary=numbers[0]["summary"],
        photo=_photo_of(picture),
        ratio=f"{picture.shape[1] / picture.shape[0]:.4f}",
        speaks_for=views[0].speaks_for,
        still=_still_of(as_maps(shown, [size], "decomposition")[0]),
        terms=terms,
        height=height,
        zero=f"{100 * top / height:.2f}%",  # from the top
        signed=signed,
        views=[view.name for view in views],
        numbers={"views": numbers, "ramps": _RAMPS, "levels": LEVELS},
        levels=LEVELS + 1,
        most=MOST_CELLS,
        scripts=scripts,
    )


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: no requests, and no scripts except those of the page."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed};"
        " base-uri 'none'; form-action 'none'"
    )


def _photo_of(picture: Array) -> str:
    """An image, (H, W, 3) in [0, 1], as a data URI; large ones are downsized."""
    photo = Image.fromarray((picture * 255).round().astype("uint8"))
    photo.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.LANCZOS)
    return _uri(photo)


def _still_of(values: Array) -> str:
    """A map of evidence, (H, W), in the colors that the page draws it in, as a data URI."""
    colors = LinearSegmentedColormap.from_list("evidence", _RAMPS["for"])
    drawn = colors(values / limit_of([values]), bytes=True)
    return _uri(Image.fromarray(drawn[..., :3]))


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
