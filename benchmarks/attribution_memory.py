"""What T-Grad needs of memory, as a ratio to captum's Saliency, and whether many calls grow it.

Prints a Markdown table. Every figure comes from a process of its own: the most that was resident
during one call, above what was resident once the model and the images were loaded. Run:

    python -m benchmarks.attribution_memory [--models resnet50 ...] [--batch 16] [--calls 200]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from captum.attr import Saliency

from benchmarks.measure import in_own_process, peak, random_model, resident
from captum_tgrad import FullGradAttribution, TGradAttribution

METHODS = {
    "Saliency": Saliency,
    "TGradAttribution": TGradAttribution,
    "FullGradAttribution": FullGradAttribution,
}


def measure(method: str, model_name: str, batch: int, calls: int) -> tuple[float, float]:
    """The peak of one call above the loaded model, and the growth over ``calls`` more, in MiB."""
    model = random_model(model_name)
    images = torch.randn(batch, 3, 224, 224, requires_grad=True)
    attribution = METHODS[method](model)
    most = peak(partial(attribution.attribute, images, target=0))
    small = images[:1, :, :64, :64].detach().requires_grad_()
    growth = 0.0
    if calls:
        for _ in range(20):
            attribution.attribute(small, target=0)
        before = resident()
        for _ in range(calls):
            attribution.attribute(small, target=0)
        growth = resident() - before
    return most, growth


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--calls", type=int, default=200, help="calls to look for growth over")
    options = parser.parse_args()
    print(f"| batch {options.batch}, 224 x 224 | method | peak, MiB | / Saliency | ", end="")
    print(f"growth over {options.calls} calls, MiB |")
    print("|---|---|---|---|---|")
    for model in options.models:
        least = None
        for method in METHODS:
            most, growth = in_own_process(measure, method, model, options.batch, options.calls)
            least = least or most
            print(f"| {model} | {method} | {most:.0f} | {most / least:.2f} | {growth:.1f} |")


if __name__ == "__main__":
    main()
