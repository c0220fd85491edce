"""How T-Grad's time and memory grow with the length of a sequence, beside Saliency's.

Prints a Markdown table, and draws a figure of it. Times are medians of interleaved pairs; memory is
the most that was resident during one call, above the loaded model, a process for each number. Run:

    python -m benchmarks.attribution_growth [--pairs 7] [--out docs/images/growth.png]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from captum.attr import InputXGradient, Saliency

from benchmarks.cases import CellLoop, Encoder
from benchmarks.measure import compare, in_own_process, most_resident, resident, seconds
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


def peak(name: str, length: int, method: str) -> float:
    """The most that was resident during one call, above the loaded model, in MiB."""
    model, inputs = _made(name, length)
    attribute = METHODS[method](model)
    loaded = resident()
    attribute(inputs, target=0)
    return most_resident() - loaded


@dataclass(frozen=True)
class Growth:
    """What was measured of one network at one length.

    Attributes:
        network: The name of the network.
        length: The length of the sequence.
        ratio: T-Grad's time over Saliency's.
        seconds: Of one T-Grad call.
        memory: For each method, MiB.
    """

    network: str
    length: int
    ratio: float
    seconds: float
    memory: tuple[float, ...]

    def __str__(self) -> str:
        own, others = self.memory
        return (
            f"| {self.network} | {self.length} | {self.ratio:.2f} | {self.seconds * 1e3:.0f} |"
            f" {own / max(others, 1):.2f} ({own:.0f} MiB) |"
        )


def main() -> None:
    """Prints the table, and draws the figure if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--out", type=Path, help="the figure (default: none)")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        name, length, method = options.peak
        print(peak(name, int(length), method))
        return
    # A child's peak counts that of its parent until then: memory is measured before this process
    # has run a model.
    memory = {
        (name, length): tuple(
            in_own_process("attribution_growth", "--peak", name, str(length), method)[0]
            for method in METHODS
        )
        for name, (_, _, _, lengths) in NETWORKS.items()
        for length in lengths
    }
    print("| network | length | T-Grad / Saliency | milliseconds | memory / InputXGradient's |")
    print("|---|---|---|---|---|")
    found = []
    for (name, length), each in memory.items():
        found.append(Growth(name, length, *_times(name, length, options.pairs), each))
        print(found[-1], flush=True)
    if options.out is not None:
        draw(found, options.out)


def _times(name: str, length: int, pairs: int) -> tuple[float, float]:
    """T-Grad's time over Saliency's, and the seconds of one T-Grad call."""
    model, inputs = _made(name, length)
    t_grad, saliency = METHODS["TGradAttribution"](model), Saliency(model)
    cpu = torch.device("cpu")

    one, other = partial(t_grad, inputs, target=0), partial(saliency.attribute, inputs, target=0)
    found = compare(one, other, pairs, cpu, warm_up=2)[0]
    return found, sorted(seconds(one, cpu) for _ in range(pairs))[pairs // 2]


def draw(found: list[Growth], out: Path) -> None:
    """Draws the time ratio and the memory over the length of the sequence."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    times.axhline(1, color="gray", linestyle="--", label="Saliency")
    for name, color, mark in zip(NETWORKS, ("C0", "C1"), "os", strict=True):
        of_network = [each for each in found if each.network == name]
        lengths = [each.length for each in of_network]
        ratios = [each.ratio for each in of_network]
        times.plot(lengths, ratios, f"{mark}-", color=color, label=f"T-Grad, {name}")
        for number, (method, line) in enumerate((("T-Grad", "-"), ("InputXGradient", ":"))):
            heights = [each.memory[number] for each in of_network]
            label = f"{method}, {name}"
            memory.plot(lengths, heights, f"{mark}{line}", color=color, label=label)
    times.set_ylabel("time / Saliency's")
    memory.set_ylabel("memory above the loaded model, MiB")
    ticks = sorted({each.length for each in found})
    for axes in (times, memory):
        axes.set_xscale("log")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
        axes.set_xticks(ticks, [str(tick) for tick in ticks], rotation=45)
        axes.minorticks_off()
        axes.set_xlabel("length of the sequence")
        axes.legend(fontsize="small")
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
