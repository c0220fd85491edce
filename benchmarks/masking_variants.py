"""What the masked part goes to, and what that does to Average Drop and Increase in Confidence.

Prints a Markdown table for the built-in model, three methods and a random map. Without a folder,
the labeled images of foolbox (``pip install --no-deps foolbox``), or two of scikit-image. Run:

    python benchmarks/masking_variants.py [--images FOLDER] [--limit 20]
"""

from __future__ import annotations

import argparse
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from captum.attr import InputXGradient, LayerGradCam
from torch import Tensor

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import average_drop, blur, increase_in_confidence, mean_color
from captum_tgrad.zoo import load_classifier, load_image, sample_image

# What a black image is normalized to: (0 - 127) / 128.
BLACK = -127 / 128
VARIANTS = {
    "0 in the normalized image (the default)": None,
    "0 in the pixels: black": BLACK,
    "the image's mean color": mean_color,
    "the blurred image": blur(),
}


def _pictures(folder: Path | None, limit: int) -> list[object]:
    if folder is None:
        found = find_spec("foolbox")
        if found is None or not found.submodule_search_locations:
            return [sample_image()]
        folder = Path(found.submodule_search_locations[0]) / "data"
        paths = sorted(folder.glob("imagenet_*.jpg"))
    else:
        paths = sorted(each for each in folder.iterdir() if each.suffix in (".jpg", ".png"))
    return [load_image(path) for path in paths[:limit]]


def _maps(model: torch.nn.Module, images: Tensor, target: Tensor) -> dict[str, Tensor]:
    layer = [each for each in model.modules() if isinstance(each, torch.nn.Conv2d)][-1]
    generator = torch.Generator().manual_seed(0)
    methods = {
        "T-Grad": TGradAttribution(model).attribute,
        "GradCAM": lambda x, target: (
            LayerGradCam(model, layer).attribute(x, target, relu_attributions=True).detach()
        ),
        "Input x Gradient": lambda x, target: (
            InputXGradient(model).attribute(x.requires_grad_(), target).detach()
        ),
        "random": lambda x, target: torch.rand(len(x), 1, 224, 224, generator=generator),
    }
    return {
        name: torch.cat(
            [
                method(image.clone(), target=label)
                for image, label in zip(images.split(1), target.split(1), strict=True)
            ]
        )
        for name, method in methods.items()
    }


def main() -> None:
    """Parses the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path)
    parser.add_argument("--limit", type=int, default=20)
    options = parser.parse_args()
    classifier = load_classifier()
    pictures = _pictures(options.images, options.limit)
    images = torch.stack([classifier.preprocess(picture) for picture in pictures])
    images = images.to(memory_format=torch.channels_last)
    with torch.no_grad():
        target = classifier.model(images).argmax(1)
    maps = _maps(classifier.model, images, target)
    print(f"{classifier.name}, {len(images)} images, the predicted class; drop / increase in %\n")
    print(f"| the masked part goes to | {' | '.join(maps)} |\n{'|---' * (len(maps) + 1)}|")
    for label, baseline in VARIANTS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            arguments = (classifier.model, images, maps, baseline)
            drops = average_drop(*arguments, target=target, max_examples_per_batch=8)
            rises = increase_in_confidence(*arguments, target=target, max_examples_per_batch=8)
        cells = [
            f"{drops[name].average_drop:.1f} / {rises[name].increase_in_confidence:.0f}"
            for name in maps
        ]
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
