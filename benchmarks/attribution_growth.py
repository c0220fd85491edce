"""How T-Grad's time and memory grow with the length of a sequence, beside Saliency's.

Prints a Markdown table. Times are medians of interleaved pairs; memory is the most that was
resident during one call, above the loaded model, a process for each figure. Run:

    python -m benchmarks.attribution_growth [--pairs 7]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch
from captum.attr import InputXGradient, Saliency

from benchmarks.attribution_cost import ratio, seconds
from benchmarks.cases import CellLoop, Encoder
from captum_tgrad import TGradAttribution

METHODS = {
    "TGradAttribution": TGradAttribution,
    "InputXGradient": InputXGradient,
}
NETWORKS = {
    "LSTM cell": (CellLoop, 32, 4, (50, 100, 200, 400)),
    "transformer encoder": (Encoder, 64, 1, (256, 512, 1024, 2048, 4096)),
}


def _made(name: str, length: int) -> tuple[torch.nn.Module, torch.Tensor]:
    build, width, batch, _ = NETWORKS[name]
    torch.manual_seed(0)
    return build().eval(), torch.randn(batch, length, width, requires_grad=True)


def peak(name: str, length: int, method: str) -> float:
    """The most that was resident during one call, above the loaded model, in MiB."""
    model, inputs = _made(name, length)
    attribution = METHODS[method](model)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    attribution.attribute(inputs, target=0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return most - pages * resource.getpagesize() / 2**20


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, length, method = options.peak
        print(peak(name, int(length), method))
        return
    # A child's peak counts that of its parent until then: memory is measured before this process
    # has run a model.
    memory = {
        (name, length): [_peak_in_own_process(name, length, method) for method in METHODS]
        for name, (_, _, _, lengths) in NETWORKS.items()
        for length in lengths
    }
    cpu = torch.device("cpu")
    print("| network | length | T-Grad / Saliency | milliseconds | memory / InputXGradient's |")
    print("|---|---|---|---|---|")
    for (name, length), (own, others) in memory.items():
        model, inputs = _made(name, length)
        t_grad, saliency = TGradAttribution(model), Saliency(model)

        def one(t_grad: TGradAttribution = t_grad, inputs: torch.Tensor = inputs) -> object:
            return t_grad.attribute(inputs, target=0)

        def other(saliency: Saliency = saliency, inputs: torch.Tensor = inputs) -> object:
            return saliency.attribute(inputs, target=0)

        found = ratio(one, other, options.pairs, cpu)
        spent = sorted(seconds(one, cpu) for _ in range(options.pairs))[options.pairs // 2]
        print(
            f"| {name} | {length} | {found:.2f} | {spent * 1e3:.0f} |"
            f" {own / max(others, 1):.2f} ({own:.0f} MiB) |",
            flush=True,
        )


def _peak_in_own_process(name: str, length: int, method: str) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.attribution_growth"]
    command += ["--peak", name, str(length), method]
    return float(subprocess.check_output(command, text=True))


if __name__ == "__main__":
    main()
