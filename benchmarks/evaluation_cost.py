"""What evaluate costs beyond its parts: the attributions and bare forward passes.

Prints the median ratio of interleaved pairs, each pair on the same images. Run:

    python -m benchmarks.evaluation_cost [--images 8] [--steps 224] [--methods t_grad ...]

The parts are every method once on the batch, and for each image and method as many forward
passes, in the same chunks, as two curves and a masked image need. Beyond them, evaluate finds the
classes, runs every method once before it is timed, perturbs, writes records, and draws figures.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import torch

from benchmarks.measure import Call, add_clock, machine, seconds
from captum_tgrad.evaluation import METHODS, built_in_images, evaluate
from captum_tgrad.evaluation.running.settings import channels_last, examples_at_once
from captum_tgrad.zoo import load_classifier


class Bench:
    """The model and the images."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.device = options, device
        self.classifier = load_classifier()
        self.model = self.classifier.model.to(device)
        pictures = built_in_images(self.classifier)
        images = torch.stack([pictures[index][0] for index in range(options.images)])
        self.images = channels_last(images)  # as evaluate itself has them
        with torch.no_grad():
            self.target = self.model(self.images.to(device)).argmax(1)

        self.explainers = [METHODS[method].build(self.classifier) for method in options.methods]

    def seconds(self, call: Call) -> float:
        """How long a call takes."""
        return seconds(call, self.device, self.options.clock)

    def whole(self) -> None:
        """One evaluation."""
        with tempfile.TemporaryDirectory() as folder:
            evaluate(
                self.classifier,
                self.images,
                self.options.methods,
                folder,
                n_steps=self.options.steps,
                batch_size=self.options.images,
                max_examples_per_batch=self.options.chunk,
            )

    def attributions(self) -> None:
        """Every method on the batch."""
        at_once = examples_at_once(self.device)  # as evaluate itself runs them
        for explainer in self.explainers:
            explainer.with_residual(
                self.images.to(self.device), self.target, examples_at_once=at_once
            )

    def forward_passes(self) -> None:
        """The passes that the metrics cannot do without."""
        methods = len(self.options.methods)
        # Of each picture: itself and its baseline; of each method two curves and a masked image.
        parts = [2] + [2 * (self.options.steps - 1)] * methods + [1 + methods]
        one = self.images[:1].to(self.device)
        room = channels_last(one.repeat(self.options.chunk, 1, 1, 1))
        with torch.no_grad():
            for part in parts * self.options.images:
                for first in range(0, part, self.options.chunk):
                    self.model(room[: min(self.options.chunk, part - first)])


def main() -> None:
    """Parses the options and prints the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=8, help="examples in one forward pass")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["t_grad", "saliency", "grad_cam"]
    )
    add_clock(parser)
    options = parser.parse_args()
    device, described = machine()
    print(described, end="; ")
    print(f"{options.images} images, {options.steps} steps, {', '.join(options.methods)}")
    bench = Bench(options, device)
    bench.attributions()
    print("\n| evaluate, s | attributions, s | forward passes, s | ratio |\n|---|---|---|---|")
    ratios = []
    for pair in range(options.pairs):
        whole = bench.seconds(bench.whole) if pair % 2 else None
        parts = bench.seconds(bench.attributions), bench.seconds(bench.forward_passes)
        whole = bench.seconds(bench.whole) if whole is None else whole
        ratios.append(whole / sum(parts))
        print(f"| {whole:.2f} | {parts[0]:.2f} | {parts[1]:.2f} | {ratios[-1]:.3f} |", flush=True)
    print(f"\nmedian ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
