"""How much of each map is on the image of its class, in grids of several images (GridPG).

An image is used if the network predicts its label (LABELS, or folders of classes, as for
``evaluate``; without labels, any class) confidently. A network that was trained on smoothed labels
is seldom sure: give a lower confidence. An image is in several grids, so intervals and paired
differences are bootstrapped over the images, not over the grids. Run:

    python -m benchmarks.grid_pointing IMAGES --labels LABELS --model squeezenet1_1 \
        --methods t_grad,grad_cam --confidence 0.8
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_tgrad.cli.options import add_shared
from captum_tgrad.cli.resolve import choose_device, chosen_methods
from captum_tgrad.evaluation import Method, images_in
from captum_tgrad.evaluation.methods.method import black_image
from captum_tgrad.evaluation.report.bootstrap import Array, Interval, bootstrap_means
from captum_tgrad.evaluation.report.summary import REFERENCE
from captum_tgrad.evaluation.running.settings import channels_last
from captum_tgrad.metrics import grid_pointing_game
from captum_tgrad.metrics.results import GridPointingGameResult
from captum_tgrad.zoo import Classifier, load_classifier


def explainer(method: Method, classifier: Classifier) -> Callable[[Tensor, Tensor], Tensor]:
    """A method as the metric calls it."""
    # One pixel: all are alike, and a grid has more of them than an image.
    compute = method.build(classifier.model, black_image(classifier)[:, :1, :1])

    def explain(inputs: Tensor, target: Tensor) -> Tensor:
        seeds = torch.randint(2**62, (len(inputs),)).tolist()  # follow from the metric's seed
        return compute(channels_last(inputs), target, seeds)

    return explain


def by_image(result: GridPointingGameResult) -> Array:
    """The mean share of each image over its grids."""
    images, shares = result.images.flatten().cpu().numpy(), result.cells.flatten().cpu().numpy()
    return np.array([shares[images == image].mean() for image in np.unique(images)])


def table(
    methods: list[Method], results: dict[str, GridPointingGameResult], grid: int
) -> Iterator[str]:
    """The lines of a Markdown table; differences are to T-Grad, if it is measured."""
    values = {name: by_image(result) for name, result in results.items()}
    reference = values.get(REFERENCE)
    differences = [] if reference is None else [each - reference for each in values.values()]
    intervals = bootstrap_means(np.stack([*values.values(), *differences], axis=1))
    yield "| method | share on the image of the class | minus T-Grad | chance |\n|---|---|---|---|"
    for number, method in enumerate(methods):
        shown = ""
        if differences and method.name != REFERENCE:
            shown = _cell(intervals[len(methods) + number], "+")
        yield f"| {method.title} | {_cell(intervals[number])} | {shown} | {1 / grid**2:.3f} |"


def _cell(interval: Interval, sign: str = "") -> str:
    mean, low, high = (f"{number:{sign}.3f}" for number in interval[:3])
    return f"{mean} [{low}, {high}]"


def main() -> None:
    """Measures the methods, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--model", default="squeezenet1_1")
    add_shared(parser, "--methods", "--config", "--allow-imports")
    parser.add_argument("--grid", type=int, default=3, help="images in a row, and rows")
    parser.add_argument("--grids", type=int, default=60)
    parser.add_argument("--confidence", type=float, default=0.99)
    parser.add_argument("--max-examples-per-batch", type=int, default=3)
    options = parser.parse_args()
    classifier = load_classifier(options.model)
    device = choose_device(None)
    classifier.model.to(device)
    pictures = images_in(options.images, classifier, options.labels)
    missing = pictures.labels.count(None)
    if 0 < missing < len(pictures):
        raise SystemExit(f"{missing} of {len(pictures)} images have no label: name all, or none")
    methods = chosen_methods(options)
    results = grid_pointing_game(
        classifier.model,
        channels_last(torch.stack([image for image, _ in pictures])).to(device),
        {method.name: explainer(method, classifier) for method in methods},
        None if missing else torch.tensor(pictures.labels),
        options.grid,
        options.grids,
        options.max_examples_per_batch,
        confidence=options.confidence,
    )
    images = len(by_image(results[methods[0].name]))
    print(f"{options.model}, {options.grids} grids, made from {images} images\n")
    print("\n".join(table(methods, results, options.grid)))


if __name__ == "__main__":
    main()
