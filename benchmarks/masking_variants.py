"""What the masked part goes to, and what that does to Average Drop and Increase in Confidence.

Prints a Markdown table for the built-in model, three methods and a random map. Without a folder,
the built-in images. Run:

    python benchmarks/masking_variants.py [--images FOLDER] [--limit 20]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from captum.attr import InputXGradient, LayerGradCam
from torch import Tensor

from captum_tgrad import TGradAttribution
from captum_tgrad.evaluation import built_in_images, images_in
from captum_tgrad.metrics import average_drop, blur, increase_in_confidence, mean_color
from captum_tgrad.zoo import load_classifier

# What a black image is normalized to: (0 - 127) / 128.
BLACK = -127 / 128
VARIANTS = {
    "0 in the normalized image (the default)": None,
    "0 in the pixels: black": BLACK,
    "the image's mean color": mean_color,
    "the blurred image": blur(),
}


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
    files = options.images
    pictures = built_in_images(classifier) if files is None else images_in(files, classifier)
    images = torch.stack([pictures[at][0] for at in range(min(options.limit, len(pictures)))])
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
