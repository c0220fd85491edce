"""What evaluate costs beyond its parts: the attributions and bare forward passes.

Prints the median ratio of interleaved pairs, each pair on the same images. Run:

    python -m benchmarks.evaluation_cost [--images 8] [--steps 224] [--methods t_grad ...]

The parts are every method once on the batch, and for each image and method as many forward
passes, in the same chunks, as two curves and a masked image need. Beyond them, evaluate finds the
classes, runs every method once before it is timed, perturbs, writes records, and draws figures.
"""

from __future__ import annotations

import argparse
import tempfile

import torch

from benchmarks.measure import add_clock, compare, machine
from captum_tgrad.evaluation import METHODS, built_in_images, evaluate
from captum_tgrad.evaluation.running.settings import channels_last, examples_at_once
from captum_tgrad.zoo import load_classifier


def main() -> None:
    """Parses the options and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=8, help="examples in one forward pass")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["t_grad", "saliency", "grad_cam"]
    )
    add_clock(parser)
    options = parser.parse_args()
    device, described = machine()
    print(described, end="; ")
    print(f"{options.images} images, {options.steps} steps, {', '.join(options.methods)}")
    classifier = load_classifier()
    model = classifier.model.to(device)
    pictures = built_in_images(classifier)
    # As evaluate itself has them.
    images = channels_last(torch.stack([pictures[index][0] for index in range(options.images)]))
    with torch.no_grad():
        target = model(images.to(device)).argmax(1)
    explainers = [METHODS[method].build(classifier) for method in options.methods]

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            evaluate(
                classifier,
                images,
                options.methods,
                folder,
                n_steps=options.steps,
                batch_size=options.images,
                max_examples_per_batch=options.chunk,
            )

    def attributions() -> None:
        at_once = examples_at_once(device)  # as evaluate itself runs them
        for explainer in explainers:
            explainer.with_residual(images.to(device), target, examples_at_once=at_once)

    def parts() -> None:
        attributions()
        methods = len(explainers)
        # Of each picture: itself and its baseline; of each method two curves and a masked image.
        passes = [2] + [2 * (options.steps - 1)] * methods + [1 + methods]
        room = channels_last(images[:1].to(device).repeat(options.chunk, 1, 1, 1))
        with torch.no_grad():
            for part in passes * options.images:
                for first in range(0, part, options.chunk):
                    model(room[: min(options.chunk, part - first)])

    attributions()  # a warm-up
    ratio, one, other = compare(whole, parts, options.pairs, device, options.clock)
    print("\n| evaluate, s | attributions and forward passes, s | ratio |\n|---|---|---|")
    print(f"| {one:.2f} | {other:.2f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
