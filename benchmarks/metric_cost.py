"""What Insertion and Deletion cost, beside the bare forward passes and other libraries.

Prints Markdown tables of medians of interleaved pairs: each call is timed beside its rival on the
same batch, so that whatever else the machine does hits both. Run:

    python -m benchmarks.metric_cost [--images 8] [--steps 224] [--pairs 5] [--tables bare ...]
"""

from __future__ import annotations

import argparse
import statistics
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Call, add_clock, compare, machine, seconds
from captum_tgrad.metrics import blur, insertion_deletion
from captum_tgrad.zoo import load_classifier, sample_image

FORMATS = {"default": torch.contiguous_format, "channels_last": torch.channels_last}


class NearlyFree(nn.Module):
    """Reads one pixel of each channel: what is left is the overhead."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1000)."""
        return F.pad(inputs[:, :, 0, 0], (0, 997))


class StubExtractor:
    """Hands torchcam given maps in the place of a CAM."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *args: object, **kwargs: object) -> list[Tensor]:
        """The given maps."""
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """The only one."""
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


class Bench:
    """The batch and the options that all tables share."""

    def __init__(self, options: argparse.Namespace, device: torch.device) -> None:
        self.options, self.device = options, device
        classifier = load_classifier()
        self.model = classifier.model.to(device)
        image = classifier.preprocess(sample_image()).to(device)
        shifts = range(0, 8 * options.images, 8)
        self.images = torch.stack([image.roll(shift, 2) for shift in shifts])
        generator = torch.Generator().manual_seed(0)
        self.maps = torch.randn(options.images, 1, 224, 224, generator=generator).to(device)
        self.baseline = blur()(self.images)
        with torch.no_grad():
            self.target = self.model(self.images).argmax(1)
            # A warm-up: the calls that are timed take a minute each, and need none of their own.
            for memory_format in FORMATS.values():
                self.model(self.images.to(memory_format=memory_format))

    def compare(self, one: Call, other: Call) -> tuple[float, float, float]:
        """The median ratio of the two calls, and both medians in seconds."""
        return compare(one, other, self.options.pairs, self.device, self.options.clock)

    def ours(self, images: Tensor, model: nn.Module | None = None, chunk: int = 0) -> Call:
        """Both curves, with the baseline given."""
        return partial(
            insertion_deletion,
            model or self.model,
            images,
            self.maps,
            self.baseline,
            target=self.target,
            n_steps=self.options.steps,
            max_examples_per_batch=chunk or self.options.chunk,
        )

    def bare(self, images: Tensor) -> Call:
        """As many forward passes in the same chunks, and nothing else."""
        samples, chunk = len(images), self.options.chunk
        # What is scored in one go: inputs, baselines, both curves.
        parts = [samples, samples, samples * 2 * (self.options.steps - 1)]
        room = images[torch.arange(chunk) % samples]  # in the memory format of the images

        def run() -> None:
            with torch.no_grad():
                for part in parts:
                    for first in range(0, part, chunk):
                        self.model(room[: min(chunk, part - first)])

        return run

    def torchcam(self, images: Tensor, model: nn.Module | None = None) -> Call:
        """The metric of torchcam on the same maps."""
        from torchcam.metrics import DeletionInsertionMetric

        metric = DeletionInsertionMetric(
            StubExtractor(model or self.model, self.maps[:, 0]),
            partial(torch.softmax, dim=-1),
            steps=self.options.steps,
            baseline=self.baseline,
            batch_size=self.options.chunk,
        )
        return partial(metric.update, images, self.target.tolist())


def table_bare(bench: Bench) -> None:
    """The ratio to the bare forward passes."""
    print("\n| built-in model | seconds | bare forward passes | ratio |\n|---|---|---|---|")
    for name, memory_format in FORMATS.items():
        images = bench.images.to(memory_format=memory_format)
        ratio, one, other = bench.compare(bench.ours(images), bench.bare(images))
        print(f"| {name} | {one:.2f} | {other:.2f} | {ratio:.3f} |", flush=True)


def table_torchcam(bench: Bench) -> None:
    """The ratio to torchcam's metric, which keeps the memory format that it is given too."""
    print("\n| built-in model | seconds | torchcam | ratio |\n|---|---|---|---|")
    for ours, theirs in (("default",) * 2, ("channels_last",) * 2, ("channels_last", "default")):
        ratio, one, other = bench.compare(
            bench.ours(bench.images.to(memory_format=FORMATS[ours])),
            bench.torchcam(bench.images.to(memory_format=FORMATS[theirs])),
        )
        row = ours if ours == theirs else f"{ours}, torchcam {theirs}"
        print(f"| {row} | {one:.2f} | {other:.2f} | {ratio:.3f} |", flush=True)


def table_overhead(bench: Bench) -> None:
    """Milliseconds per image where the model costs nothing."""
    print("\n| nearly free model | ms per image | with the blur | torchcam, ms per image |")
    print("|---|---|---|---|")
    model = NearlyFree().eval()
    for name, memory_format in FORMATS.items():
        images = bench.images.to(memory_format=memory_format)
        _, one, other = bench.compare(bench.ours(images, model), bench.torchcam(images, model))
        blurring = statistics.median(
            seconds(partial(blur(), images), bench.device, bench.options.clock) for _ in range(5)
        )
        cells = [1000 * each / len(images) for each in (one, one + blurring, other)]
        print(f"| {name} | {' | '.join(f'{cell:.0f}' for cell in cells)} |", flush=True)


def table_quantus(bench: Bench) -> None:
    """Milliseconds per forward evaluation, beside Quantus' PixelFlipping."""
    import quantus

    images, steps = bench.images, bench.options.steps
    # Quantus replaces single numbers, not pixels, and wants a divisor of the number of pixels.
    in_step = next(each for each in range(50176 // steps, 0, -1) if 50176 % each == 0)
    metric = quantus.PixelFlipping(features_in_step=in_step, normalize=False, disable_warnings=True)
    maps = bench.maps.expand_as(images).cpu().numpy()

    def flipping() -> None:
        metric(
            model=bench.model,
            x_batch=images.cpu().numpy(),
            y_batch=bench.target.cpu().numpy(),
            a_batch=maps,
            channel_first=True,
            softmax=True,
            device=str(bench.device),
            batch_size=bench.options.chunk,
        )

    _, one, other = bench.compare(bench.ours(images), flipping)
    evaluations = len(images) * 2 * steps, len(images) * (images[0].numel() // in_step)
    print("\n| per forward evaluation | ms |\n|---|---|")
    print(f"| this package | {1000 * one / evaluations[0]:.1f} |")
    print(f"| Quantus' PixelFlipping | {1000 * other / evaluations[1]:.1f} |", flush=True)


def table_chunks(bench: Bench) -> None:
    """Milliseconds per forward evaluation by chunk size and memory format."""
    chunks = [1, 4, 8, 16, 32, 64]
    print(f"\n| ms per forward evaluation, chunks of | {' | '.join(map(str, chunks))} |")
    print("|---" * (len(chunks) + 1) + "|")
    evaluations = len(bench.images) * 2 * bench.options.steps
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(1 + bench.options.pairs):
        for name, memory_format in FORMATS.items():
            images = bench.images.to(memory_format=memory_format)
            for chunk in chunks:
                call = bench.ours(images, chunk=chunk)
                spent = seconds(call, bench.device, bench.options.clock)
                times.setdefault((name, chunk), []).append(spent)
    for name in FORMATS:
        medians = [statistics.median(times[name, chunk][1:]) for chunk in chunks]
        cells = [f"{1000 * median / evaluations:.2f}" for median in medians]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


TABLES = {
    table.__name__.removeprefix("table_"): table
    for table in (table_bare, table_torchcam, table_overhead, table_quantus, table_chunks)
}


def main() -> None:
    """Parses the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--steps", type=int, default=224)
    parser.add_argument("--chunk", type=int, default=64, help="examples in one call of the model")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    add_clock(parser)
    options = parser.parse_args()
    device, described = machine()
    print(described, end="; ")
    print(f"{options.images} images, {options.steps} steps, chunks of {options.chunk},", end=" ")
    print(f"{options.clock} clock")
    bench = Bench(options, device)
    for table in options.tables:
        TABLES[table](bench)


if __name__ == "__main__":
    main()
