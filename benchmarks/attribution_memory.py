"""What T-Grad needs of memory, as a ratio to captum's Saliency, and whether many calls grow it.

Prints a Markdown table. Every figure comes from a process of its own: the most that was resident
during one call, above what was resident once the model and the images were loaded. Run:

    python -m benchmarks.attribution_memory [--models resnet50 ...] [--batch 16] [--calls 200]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch
import torchvision
from captum.attr import Saliency

from captum_tgrad import FullGradAttribution, TGradAttribution

METHODS = {
    "Saliency": Saliency,
    "TGradAttribution": TGradAttribution,
    "FullGradAttribution": FullGradAttribution,
}
_MEBIBYTE = 2**20


def _resident() -> float:
    """Resident memory now, in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MEBIBYTE


def _most_resident() -> float:
    """The most that was resident so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MEBIBYTE


def measure(method: str, model_name: str, batch: int, calls: int) -> tuple[float, float]:
    """The peak of one call above the loaded model, and the growth over ``calls`` more, in MiB."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(model_name, weights=None).eval()
    images = torch.randn(batch, 3, 224, 224, requires_grad=True)
    attribution = METHODS[method](model)
    loaded = _resident()
    attribution.attribute(images, target=0)
    peak = _most_resident() - loaded
    small = images[:1, :, :64, :64].detach().requires_grad_()
    growth = 0.0
    if calls:
        for _ in range(20):
            attribution.attribute(small, target=0)
        before = _resident()
        for _ in range(calls):
            attribution.attribute(small, target=0)
        growth = _resident() - before
    return peak, growth


def _in_own_process(method: str, model: str, batch: int, calls: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.attribution_memory", "--only", method]
    command += ["--models", model, "--batch", str(batch), "--calls", str(calls)]
    peak, growth = subprocess.check_output(command, text=True).split()
    return float(peak), float(growth)


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
            peak, growth = _in_own_process(method, model, options.batch, options.calls)
            least = least or peak
            print(f"| {model} | {method} | {peak:.0f} | {peak / least:.2f} | {growth:.1f} |")


if __name__ == "__main__":
    main()
