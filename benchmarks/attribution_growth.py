"""How T-Grad's time and memory grow with the length of a sequence, beside Saliency's.

Prints a Markdown table, and draws a figure of it. Times are medians of interleaved pairs; memory is
the most that was resident during one call, above the loaded model, a process for each number. Run:

    python -m benchmarks.attribution_growth [--pairs 7] [--out docs/images/growth.png]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from captum.attr import InputXGradient, Saliency
from matplotlib.figure import Figure

from benchmarks.cases import CellLoop, Encoder
from benchmarks.measure import compare, in_own_process, peak
from captum_tgrad import TGradAttribution

METHODS = {
    "TGradAttribution": lambda model: partial(TGradAttribution(model).attribute, channel_dim=-1),
    "InputXGradient": lambda model: InputXGradient(model).attribute,
}
NETWORKS = {
    "LSTM cell": (CellLoop, 32, 4, (50, 100, 200, 400)),
    "transformer encoder": (Encoder, 64, 1, (256, 512, 1024, 2048, 4096)),
}


def _made(name: str, length: int) -> tuple[torch.nn.Module, torch.Tensor]:
    build, width, batch, _ = NETWORKS[name]
    torch.manual_seed(0)
    return build().eval(), torch.randn(batch, length, width, requires_grad=True)


def memory_of(name: str, length: int, method: str) -> float:
    """The most that was resident during one call, above the loaded model, in MiB."""
    model, inputs = _made(name, length)
    return peak(partial(METHODS[method](model), inputs, target=0))


class Growth(NamedTuple):
    """What was measured of one network at one length: time over Saliency's, and MiB."""

    network: str
    length: int
    ratio: float
    memory: float
    others_memory: float


def main() -> None:
    """Prints the table, and draws the figure if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path, help="the figure (default: none)")
    options = parser.parse_args()
    # A child's peak counts that of its parent until then: memory is measured before this process
    # has run a model.
    memory = {
        (name, length): [in_own_process(memory_of, name, length, method) for method in METHODS]
        for name, (_, _, _, lengths) in NETWORKS.items()
        for length in lengths
    }
    print("| network | length | T-Grad / Saliency | milliseconds | memory / InputXGradient's |")
    print("|---|---|---|---|---|")
    found = []
    for (name, length), (own, others) in memory.items():
        model, inputs = _made(name, length)
        t_grad = partial(METHODS["TGradAttribution"](model), inputs, target=0)
        saliency = partial(Saliency(model).attribute, inputs, target=0)
        ratio, seconds, _ = compare(t_grad, saliency, options.pairs, torch.device("cpu"), warm_up=2)
        found.append(Growth(name, length, ratio, own, others))
        print(
            f"| {name} | {length} | {ratio:.2f} | {seconds * 1e3:.0f} |"
            f" {own / max(others, 1):.2f} ({own:.0f} MiB) |",
            flush=True,
        )
    if options.out is not None:
        draw(found, options.out)


def draw(found: list[Growth], out: Path) -> None:
    """Draws the time ratio and the memory over the length of the sequence."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    times.axhline(1, color="gray", linestyle="--", label="Saliency")
    for name, color, mark in zip(NETWORKS, ("C0", "C1"), "os", strict=True):
        of_network = [each for each in found if each.network == name]
        lengths = [each.length for each in of_network]
        ratios = [each.ratio for each in of_network]
        times.plot(lengths, ratios, f"{mark}-", color=color, label=f"T-Grad, {name}")
        own = [each.memory for each in of_network]
        memory.plot(lengths, own, f"{mark}-", color=color, label=f"T-Grad, {name}")
        others = [each.others_memory for each in of_network]
        memory.plot(lengths, others, f"{mark}:", color=color, label=f"InputXGradient, {name}")
    times.set_ylabel("time / Saliency's")
    memory.set_ylabel("memory above the loaded model, MiB")
    ticks = sorted({each.length for each in found})
    for axes in (times, memory):
        axes.set_xscale("log")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
        # On their points, and upright: neighbors such as 200 and 256 are close.
        axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=90)
        axes.minorticks_off()
        axes.set_xlabel("length of the sequence")
        axes.legend(fontsize="small")
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
