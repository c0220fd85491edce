"""What T-Grad costs, as a ratio to captum's Saliency, the least that a gradient method can cost.

Prints a Markdown table of medians of interleaved pairs: each T-Grad call is timed beside a Saliency
call on the same batch, so that whatever else the machine does hits both. Run:

    python benchmarks/attribution_cost.py [--pairs 15] [--models vgg16 resnet50 ...] [--methods]
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

from captum_tgrad import FullGradAttribution, TGradAttribution

try:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ImportError:
    pytorch_grad_cam = None

MODELS = ["vgg16", "resnet50", "densenet121", "mobilenet_v2", "efficientnet_b0"]


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def ratio(
    one: Callable[[], object], other: Callable[[], object], pairs: int, device: torch.device
) -> float:
    """The median of ``one``'s time over ``other``'s, pair by pair, after a warm-up."""
    for call in (one, other):
        _seconds(call, device)
    ratios = []
    for pair in range(pairs):
        calls = (one, other) if pair % 2 else (other, one)
        times = {call: _seconds(call, device) for call in calls}
        ratios.append(times[one] / times[other])
    return statistics.median(ratios)


def _model(name: str, device: torch.device) -> torch.nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval().to(device)


def _ratio_to_saliency(
    method: type,
    model: torch.nn.Module,
    images: torch.Tensor,
    target: torch.Tensor,
    pairs: int,
    device: torch.device,
) -> float:
    explained, saliency = method(model), Saliency(model)
    images.requires_grad_()  # what Saliency would otherwise set, and warn of
    return ratio(
        lambda: explained.attribute(images, target=target),
        lambda: saliency.attribute(images, target=target),
        pairs,
        device,
    )


def cost_of_t_grad(options: argparse.Namespace, device: torch.device) -> None:
    """Prints the ratio to Saliency, model by model."""
    print(f"| model, batch {options.batch}, 224 x 224 | T-Grad / Saliency | channels_last |")
    print("|---|---|---|")
    for name in options.models:
        model = _model(name, device)
        images = torch.randn(options.batch, 3, 224, 224, device=device)
        target = torch.zeros(options.batch, dtype=torch.long, device=device)
        cells = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            model, batch = (
                model.to(memory_format=memory_format),
                images.detach().to(memory_format=memory_format),
            )
            cells.append(
                _ratio_to_saliency(TGradAttribution, model, batch, target, options.pairs, device)
            )
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.2f} |", flush=True)


def cost_of_methods(options: argparse.Namespace, device: torch.device) -> None:
    """Prints what other methods cost on resnet50, as in the paper's Fig. 3, and FullGrad."""
    model = _model("resnet50", device)
    images = torch.randn(1, 3, 224, 224, device=device)
    t_grad, full_grad = TGradAttribution(model), FullGradAttribution(model)
    gradients, noisy = IntegratedGradients(model), NoiseTunnel(Saliency(model))

    def call_t_grad() -> None:
        t_grad.attribute(images, target=0)

    def call_full_grad() -> None:
        full_grad.attribute(images, target=0)

    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "IntegratedGradients, 50 steps / T-Grad": (
            lambda: gradients.attribute(images, target=0, n_steps=50, internal_batch_size=10),
            call_t_grad,
        ),
        "NoiseTunnel(Saliency), 50 samples / T-Grad": (
            lambda: noisy.attribute(
                images.clone(), target=0, nt_samples=50, nt_samples_batch_size=10, stdevs=0.1
            ),
            call_t_grad,
        ),
        "FullGrad / T-Grad": (call_full_grad, call_t_grad),
    }
    print("\n| resnet50, one image | ratio |\n|---|---|")
    pairs = max(3, options.pairs // 3)

    def row(name: str, one: Callable[[], object], other: Callable[[], object]) -> None:
        print(f"| {name} | {ratio(one, other, pairs, device):.2f} |", flush=True)

    for name, (one, other) in calls.items():
        row(name, one, other)
    if pytorch_grad_cam is not None:
        target = [ClassifierOutputTarget(0)]
        # While it lives, it keeps the activations of whatever else runs the model.
        with pytorch_grad_cam.FullGrad(copy.deepcopy(model), []) as theirs:
            row(
                "pytorch_grad_cam.FullGrad / FullGrad",
                lambda: theirs(images, target),
                call_full_grad,
            )


def main() -> None:
    """Parses the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--methods", action="store_true", help="also time other methods")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    cost_of_t_grad(options, device)
    if options.methods:
        cost_of_methods(options, device)


if __name__ == "__main__":
    main()
