"""Draws the images of the README and of the results: ``python docs/draw_images.py``.

The photographs come with scikit-image: the espresso (by Rachel Michetti) and the cat (by Stefan van
der Walt) are under CC0, the rocket (by SpaceX) is in the public domain.
"""

from __future__ import annotations

import io
from pathlib import Path

import skimage.data
import torch
from matplotlib.figure import Figure
from PIL import Image

from captum_tgrad.evaluation import get_method
from captum_tgrad.visualization import methods_figure
from captum_tgrad.zoo import load_classifier

IMAGES = Path(__file__).parent / "images"
METHODS = [
    "t_grad",
    "grad_cam",
    "full_grad",
    "smooth_grad",
    "input_x_gradient",
    "integrated_gradients",
]


def maps_of_methods() -> Figure:
    """Three photographs, explained by six methods."""
    classifier = load_classifier("efficientnet_lite0")
    photographs = [
        Image.fromarray(photograph())
        for photograph in (skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket)
    ]
    inputs = torch.stack([classifier.preprocess(each) for each in photographs])
    with torch.no_grad():
        targets = classifier.model(inputs).argmax(dim=1)
    maps = {}
    for name in METHODS:
        method = get_method(name)
        explainer = method.build(classifier)
        maps[method.title] = explainer(inputs, targets)
    return methods_figure(
        [classifier.crop(each) for each in photographs],
        maps,
        labels=[classifier.class_names[target] for target in targets.tolist()],
    )


def write(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure, as WebP if the name says so."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", facecolor="white")
    Image.open(buffer).convert("RGB").save(path, quality=85)


if __name__ == "__main__":
    write(maps_of_methods(), IMAGES / "methods.webp", dpi=110)
