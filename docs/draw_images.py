"""Draws the images of the README and of the results.

``python docs/draw_images.py`` draws all, ``python docs/draw_images.py cascade`` one.

The photographs come with scikit-image: the espresso (by Rachel Michetti) and the cat (by Stefan van
der Walt) are under CC0, the rocket (by SpaceX) is in the public domain.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import skimage.data
import torch
from matplotlib.figure import Figure
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from torchvision.utils import make_grid

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import get_method
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.sanity_checks.layers import block_names
from captum_tgrad.visualization import cascade_figure, explanation_figure, methods_figure
from captum_tgrad.zoo import Classifier, load_classifier

IMAGES = Path(__file__).parent / "images"
METHODS = [
    "t_grad",
    "grad_cam",
    "full_grad",
    "smooth_grad",
    "input_x_gradient",
    "integrated_gradients",
]


def espresso_cat_and_rocket(
    classifier: Classifier,
) -> tuple[list[Image.Image], torch.Tensor, torch.Tensor]:
    """The photographs as the network sees them, its inputs, and the classes that it predicts."""
    photographs = [
        Image.fromarray(photograph())
        for photograph in (skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket)
    ]
    inputs = torch.stack([classifier.preprocess(each) for each in photographs])
    with torch.no_grad():
        targets = classifier.model(inputs).argmax(dim=1)
    return [classifier.crop(each) for each in photographs], inputs, targets


def maps_of_methods() -> Figure:
    """Three photographs, explained by six methods."""
    classifier = load_classifier("efficientnet_lite0")
    images, inputs, targets = espresso_cat_and_rocket(classifier)
    maps = {}
    for name in METHODS:
        method = get_method(name)
        explainer = method.build(classifier)
        maps[method.title] = explainer(inputs, targets)
    return methods_figure(
        images, maps, labels=[classifier.class_names[target] for target in targets.tolist()]
    )


def grid() -> Figure:
    """Four photographs as one image, and the maps of two of the classes, each with its cell."""
    classifier = load_classifier("efficientnet_lite0")
    shown, inputs, targets = espresso_cat_and_rocket(classifier)
    tripod = Image.fromarray(skimage.data.camera()).convert("RGB")
    shown, inputs = [*shown, classifier.crop(tripod)], [*inputs, classifier.preprocess(tripod)]
    image = make_grid([pil_to_tensor(each) for each in shown], nrow=2, padding=0)
    tiled = make_grid(inputs, nrow=2, padding=0).unsqueeze(0)
    explained = {
        "espresso": (int(targets[0]), 0),
        "tripod": (classifier.class_names.index("tripod"), 3),
    }
    maps, boxes = [], []
    side = image.shape[1] // 2
    for target, cell in explained.values():
        maps.append(
            TGradAttribution(classifier.model).attribute(tiled, target, aggregation="levels")
        )
        x, y = cell % 2 * side, cell // 2 * side
        boxes.append(torch.tensor([[x, y, x + side, y + side]], dtype=torch.float32))
    return explanation_figure(
        image.expand(2, -1, -1, -1),
        torch.cat(maps),
        class_name=list(explained),
        method="T-Grad by levels",
        boxes=boxes,
    )


def cascade() -> Figure:
    """T-Grad while the network is randomized, with the settings of benchmarks/sanity_check.py."""
    classifier = load_classifier("efficientnet_lite0")
    images, inputs, targets = espresso_cat_and_rocket(classifier)
    model = classifier.model
    layers = block_names(model, lambda: model(inputs))
    return cascade_figure(
        cascading_randomization(model, TGradAttribution, inputs, targets, layers=layers, seed=0),
        images,
        labels=[classifier.class_names[target] for target in targets.tolist()],
        title="T-Grad while EfficientNet-Lite0 is randomized, from the classifier to the input",
    )


def write(figure: Figure, path: Path, dpi: int) -> None:
    """Writes a figure, as WebP if the name says so."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, bbox_inches="tight", facecolor="white")
    Image.open(buffer).convert("RGB").save(path, quality=85)


if __name__ == "__main__":
    drawn = {"methods": (maps_of_methods, 110), "cascade": (cascade, 100), "grid": (grid, 100)}
    for name in sys.argv[1:] or drawn:
        draw, dpi = drawn[name]
        write(draw(), IMAGES / f"{name}.webp", dpi=dpi)
