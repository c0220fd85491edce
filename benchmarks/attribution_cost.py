"""What T-Grad costs, as a ratio to captum's Saliency, the least that a gradient method can cost.

Prints a Markdown table of medians of interleaved pairs: each T-Grad call is timed beside a Saliency
call on the same batch, so that whatever else the machine does hits both. Run:

    python -m benchmarks.attribution_cost [--pairs 15] [--cases vgg16 LSTM] [--methods] [--check]
        [--autocast] [--batch 8]
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

from benchmarks.cases import CASES
from benchmarks.measure import Call, compare, machine, random_model
from captum_tgrad import FullGradAttribution, TGradAttribution

try:
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
except ImportError:
    pytorch_grad_cam = None


def cost_of_t_grad(options: argparse.Namespace, device: torch.device) -> list[str]:
    """Prints the ratio to Saliency, case by case.

    Returns:
        The names of the cases that are above their limit.
    """
    print("| case | T-Grad / Saliency | channels_last | at most |")
    print("|---|---|---|---|")
    above = []
    for case in CASES:
        if not any(part in case.name for part in options.cases):
            continue
        ratios = []
        for memory_format in (torch.contiguous_format, torch.channels_last):
            if memory_format == torch.channels_last and len(case.shape) != 4:
                continue
            model, images = case.make(device, options.batch)
            model = model.to(memory_format=memory_format)
            images = images.detach().to(memory_format=memory_format).requires_grad_()
            t_grad, saliency = TGradAttribution(model), Saliency(model)
            one = partial(t_grad.attribute, images, target=0, channel_dim=case.channel_dim)
            other = partial(saliency.attribute, images, target=0)
            with torch.autocast(device.type, enabled=options.autocast):
                ratios.append(compare(one, other, options.pairs, device, warm_up=2)[0])
        if ratios[0] > case.limit:
            above.append(case.name)
        cells = [f"{each:.2f}" for each in ratios] + ["-"] * (2 - len(ratios))
        print(f"| {case.name} | {' | '.join(cells)} | {case.limit} |", flush=True)
    return above


def cost_of_methods(options: argparse.Namespace, device: torch.device) -> None:
    """Prints what other methods cost on resnet50, as in the paper's Fig. 3, and FullGrad."""
    model = random_model("resnet50").to(device)
    images = torch.randn(1, 3, 224, 224, device=device)
    t_grad, full_grad = TGradAttribution(model), FullGradAttribution(model)
    gradients, noisy = IntegratedGradients(model), NoiseTunnel(Saliency(model))

    def call_t_grad() -> None:
        t_grad.attribute(images, target=0)

    def call_full_grad() -> None:
        full_grad.attribute(images, target=0)

    calls: dict[str, tuple[Call, Call]] = {
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

    def row(name: str, one: Call, other: Call) -> None:
        ratio = compare(one, other, pairs, device, warm_up=2)[0]
        print(f"| {name} | {ratio:.2f} |", flush=True)

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
    parser.add_argument("--cases", nargs="+", default=[""], help="parts of names")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--methods", action="store_true", help="also time other methods")
    parser.add_argument("--autocast", action="store_true", help="in half precision")
    parser.add_argument("--batch", type=int, default=1, help="multiply the batch size of each case")
    parser.add_argument("--check", action="store_true", help="exit 1 above a limit; at rest only")
    options = parser.parse_args()
    device, described = machine()
    print(described, end="; ")
    print(f"{options.batch} times the batch{', autocast' if options.autocast else ''}\n")
    above = cost_of_t_grad(options, device)
    if options.methods:
        cost_of_methods(options, device)
    if options.check and above:
        raise SystemExit("above the limit: " + "; ".join(above))


if __name__ == "__main__":
    main()
