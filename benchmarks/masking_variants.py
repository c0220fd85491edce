"""What the masked part goes to, and what that does to Average Drop and Increase in Confidence.

Prints a Markdown table for the built-in model, three methods and a random map. Without a folder,
the built-in images. Run:

    python -m benchmarks.masking_variants [--images FOLDER] [--limit 20]
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch

from captum_tgrad.evaluation import built_in_images, get_method, images_in
from captum_tgrad.evaluation.methods.method import image_seed
from captum_tgrad.metrics import average_drop, blur, increase_in_confidence, mean_color
from captum_tgrad.zoo import load_classifier

METHODS = ("t_grad", "grad_cam", "input_x_gradient", "random")
# What a black image is normalized to: (0 - 127) / 128.
BLACK = -127 / 128
VARIANTS = {
    "0 in the normalized image (the default)": None,
    "0 in the pixels: black": BLACK,
    "the image's mean color": mean_color,
    "the blurred image": blur(),
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
    seeds = [image_seed(name) for name in pictures.names[: len(images)]]  # those of evaluate
    maps = {name: get_method(name).build(classifier)(images, target, seeds) for name in METHODS}
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
