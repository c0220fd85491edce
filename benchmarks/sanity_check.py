"""How the maps of several methods change as the built-in network is randomized.

Prints a Markdown table for each method: per step of the cascade, the mean over the images of the
rank correlation and of SSIM with the map of the trained network, with and without the sign, and
how many of the maps are constant (they have no rank correlation). Run:

    python -m benchmarks.sanity_check [PICTURE ...] [--mode independent] [--seed 0]

captum's GuidedBackprop changes the gradient of ``torch.nn.ReLU`` and of nothing else, so that on
this network, which is made of ReLU6, it is the plain gradient. ``guided_backprop`` therefore
explains the same network with each ReLU6 made a kind of ReLU; ``guided_backprop_of_captum`` shows
what it does to the network as it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import skimage.data
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, LayerGradCam, Saliency
from PIL import Image
from torch import Tensor, nn

from captum_tgrad import FullGradAttribution, TGradAttribution
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.sanity_checks.layers import block_names
from captum_tgrad.zoo import load_classifier, load_image


class _ReLU6(nn.ReLU):
    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input)


def _as_relu(model: nn.Module) -> nn.Module:
    """Makes each ReLU6 a kind of ReLU: the same function, with captum's guided gradient."""
    for name, module in model.named_children():
        if isinstance(module, nn.ReLU6):
            setattr(model, name, _ReLU6())
        _as_relu(module)
    return model


METHODS: dict[str, Callable[[Any], Any]] = {
    "t_grad": TGradAttribution,
    "full_grad": FullGradAttribution,
    "saliency": Saliency,
    "guided_backprop": lambda model: GuidedBackprop(_as_relu(model)),
    "guided_backprop_of_captum": GuidedBackprop,
    "grad_cam": lambda model: LayerGradCam(model, model._conv_head),
}


def main() -> None:
    """Parses the options and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pictures", nargs="*", help="files; else three of scikit-image's")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--mode", choices=["cascading", "independent"], default="cascading")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    classifier = load_classifier()
    model = classifier.model
    pictures = [load_image(path) for path in options.pictures] or [
        Image.fromarray(sample())
        for sample in (skimage.data.coffee, skimage.data.chelsea, skimage.data.rocket)
    ]
    images = torch.stack([classifier.preprocess(picture) for picture in pictures])
    images.requires_grad_()
    predicted = [classifier.class_names[index] for index in model(images).argmax(1)]
    print(f"{len(images)} images, predicted: {', '.join(predicted)}")
    layers = block_names(model, lambda: model(images))
    for name in options.methods:
        print(f"\n{name}, {options.mode}, seed {options.seed}\n")
        print("| randomized | rank correlation | absolute | SSIM | absolute | constant |")
        print("|---|---|---|---|---|---|")
        start = time.perf_counter()
        steps = cascading_randomization(
            model, METHODS[name], images, layers=layers, mode=options.mode, seed=options.seed
        )
        for step in steps:
            values = (step.spearman, step.spearman_absolute, step.ssim, step.ssim_absolute)
            means = [f"{float(each.nanmean()):.3f}" for each in values]
            constant = int(step.spearman.isnan().sum())
            print(f"| {step.layer or '(trained)'} | {' | '.join(means)} | {constant} |", flush=True)
        print(f"\n{time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
