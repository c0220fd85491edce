"""What ``score_dtype=torch.bfloat16`` of ``evaluate`` saves, and what it changes.

Prints two Markdown tables: the time of both curves of an image as medians of interleaved pairs,
beside a copy of the model in bfloat16; and the change of the areas of the built-in images. Run:

    python -m benchmarks.score_dtype [--images 20] [--steps 28] [--pairs 9] [--clock cpu]
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.measure import add_clock, compare, machine, random_model
from captum_tgrad.evaluation import built_in_images, evaluate
from captum_tgrad.evaluation.running.score_dtype import Autocast
from captum_tgrad.evaluation.running.settings import channels_last, examples_per_batch
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.zoo import load_classifier

ZOO = ("efficientnet_lite0", "squeezenet1_1")
RANDOM = ("resnet50", "vgg16")
METHODS = ("t_grad", "grad_cam")
AREAS = ("insertion", "deletion", "difference")


def _curves(model: nn.Module, steps: int, device: torch.device, dtype: torch.dtype) -> Callable:
    """A call that scores both curves of one image, from and to zeros."""
    generator = torch.Generator().manual_seed(0)
    image = channels_last(torch.randn(1, 3, 224, 224, generator=generator).to(device, dtype))
    return partial(
        insertion_deletion,
        model,
        image,
        torch.rand(1, 1, 224, 224, generator=generator).to(device),
        0,
        target=0,
        n_steps=steps,
        max_examples_per_batch=examples_per_batch(None, device),
    )


def speed(options: argparse.Namespace, device: torch.device) -> None:
    """Prints the ratios to float32."""
    print("\n| network | bfloat16 / float32 | a copy in bfloat16 / float32 |\n|---|---|---|")
    for name in (*ZOO, *RANDOM):
        model = (load_classifier(name).model if name in ZOO else random_model(name)).to(device)
        half = copy.deepcopy(model).to(torch.bfloat16)
        own = _curves(model, options.steps, device, torch.float32)
        others = [(Autocast(model, torch.bfloat16), torch.float32), (half, torch.bfloat16)]
        cells = []
        for other, dtype in others:
            curves = _curves(other, options.steps, device, dtype)
            ratio, *_ = compare(curves, own, options.pairs, device, options.clock, warm_up=1)
            cells.append(ratio)
        print(f"| {name} | {' | '.join(f'{cell:.2f}' for cell in cells)} |", flush=True)


def effect(images: int, steps: int, device: torch.device) -> None:
    """Prints the change of the areas, bfloat16 minus float32: mean, and root mean square."""
    print(f"\n| network | method | {' | '.join(AREAS)} |\n{'|---' * (2 + len(AREAS))}|")
    for name in ZOO:
        classifier = load_classifier(name)
        classifier.model.to(device)
        pictures = built_in_images(classifier)
        exact, rounded = (
            evaluate(
                classifier, pictures, METHODS, n_steps=steps, limit=images, score_dtype=dtype
            ).records
            for dtype in (torch.float32, torch.bfloat16)
        )
        for method in METHODS:
            cells = []
            for key in AREAS:
                change = np.array(
                    [
                        after[key] - before[key]
                        for before, after in zip(exact, rounded, strict=True)
                        if before["method"] == method
                    ]
                )
                cells.append(f"{change.mean():+.4f}, {np.sqrt((change**2).mean()):.4f}")
            print(f"| {name} | {method} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Parses the options and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--pairs", type=int, default=9)
    add_clock(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    device, described = machine()
    print(described)
    speed(options, device)
    effect(options.images, options.steps, device)


if __name__ == "__main__":
    main()
