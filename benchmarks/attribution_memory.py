"""What T-Grad needs of memory, as a ratio to captum's Saliency, and whether many calls grow it.

Prints a Markdown table. Every figure comes from a process of its own: the most that was resident
during one call, above what was resident once the model and the images were loaded. Run:

    python -m benchmarks.attribution_memory [--models resnet50 ...] [--batch 16] [--calls 200]
"""

from __future__ import annotations

import argparse

import torch
from captum.attr import Saliency

from benchmarks.measure import in_own_process, most_resident, random_model, resident
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
    loaded = resident()
    attribution.attribute(images, target=0)
    peak = most_resident() - loaded
    small = images[:1, :, :64, :64].detach().requires_grad_()
    growth = 0.0
    if calls:
        for _ in range(20):
            attribution.attribute(small, target=0)
        before = resident()
        for _ in range(calls):
            attribution.attribute(small, target=0)
        growth = resident() - before
    return peak, growth


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--calls", type=int, default=200, help="calls to look for growth over")
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(*measure(options.only, options.models[0], options.batch, options.calls))
        return
    print(f"| batch {options.batch}, 224 x 224 | method | peak, MiB | / Saliency | ", end="")
    print(f"growth over {options.calls} calls, MiB |")
    print("|---|---|---|---|---|")
    for model in options.models:
        least = None
        for method in METHODS:
            command = ["--only", method, "--models", model]
            command += ["--batch", str(options.batch), "--calls", str(options.calls)]
            peak, growth = in_own_process("attribution_memory", *command)
            least = least or peak
            print(f"| {model} | {method} | {peak:.0f} | {peak / least:.2f} | {growth:.1f} |")


if __name__ == "__main__":
    main()
