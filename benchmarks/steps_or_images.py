"""What limits the area under a curve: its steps, or the number of images.

Walks the curves of the built-in images in 224 steps, and leaves steps out of them. Prints a
Markdown table and draws a figure. Run:

    python -m benchmarks.steps_or_images [--out docs/images/steps_or_images.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from captum_tgrad.evaluation import built_in_images, get_method
from captum_tgrad.evaluation.report.bootstrap import bootstrap_means
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.zoo import load_classifier

METHODS = ("t_grad", "grad_cam", "input_x_gradient", "random")
STEPS = (224, 112, 56, 28, 14)


def areas_by_steps(images: int) -> np.ndarray:
    """Insertion minus deletion, shape ``(len(STEPS), len(METHODS), images)``."""
    classifier = load_classifier("efficientnet_lite0")
    pictures, model = built_in_images(classifier), classifier.model
    model.to(memory_format=torch.channels_last)
    found = np.zeros((len(STEPS), len(METHODS), images))
    explainers = {name: get_method(name).build(classifier) for name in METHODS}
    for number in range(images):
        image = pictures[number][0][None]
        target = model(image).argmax(1)
        maps = {name: explain(image, target, [number]) for name, explain in explainers.items()}
        results = insertion_deletion(
            model,
            image,
            maps,
            target=target,
            n_steps=STEPS[0],
            max_examples_per_batch=8,
            return_curves=True,
        )
        for row, result in enumerate(results.values()):
            curve = (result.insertion_curve - result.deletion_curve)[0].double()
            points = result.fractions[0].double()
            for column, steps in enumerate(STEPS):
                kept = slice(None, None, STEPS[0] // steps)
                found[column, row, number] = float(torch.trapezoid(curve[kept], points[kept]))
        print(f"{number + 1} of {images} images", flush=True)
    return found


def main() -> None:
    """Prints the table and draws the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("steps_or_images.png"))
    options = parser.parse_args()
    areas = areas_by_steps(options.images)
    errors = areas - areas[:1]
    of_an_image = np.sqrt((errors**2).mean((1, 2)))
    of_a_mean = np.abs(errors.mean(2)).max(1)
    interval = max((found.high - found.low) / 2 for found in bootstrap_means(areas[0].T, 0))
    print("\n| steps | error of an image (rms) | error of a mean | interval over the images |")
    print("|---|---|---|---|")
    for steps, one, mean in zip(STEPS, of_an_image, of_a_mean, strict=True):
        print(f"| {steps} | {one:.4f} | {mean:.4f} | {interval:.3f} |")

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axes = figure.subplots()
    passes = [2 * steps for steps in STEPS[1:]]
    axes.loglog(passes, of_an_image[1:], "o-", label="steps: error of one image")
    axes.loglog(passes, of_a_mean[1:], "s-", label="steps: error of the mean")
    axes.axhline(interval, color="black", label=f"images: interval of {options.images}")
    axes.axhline(interval / 4, color="gray", linestyle="--", label="interval of 16 times as many")
    axes.set_xticks(passes, [str(steps) for steps in STEPS[1:]])
    axes.minorticks_off()
    axes.set_xlabel("steps of a curve")
    axes.set_ylabel("error of insertion - deletion")
    axes.legend(fontsize="small")
    figure.savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
