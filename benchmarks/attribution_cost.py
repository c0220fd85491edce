"""What T-Grad costs, as a ratio to captum's Saliency, the least that a gradient method can cost.

Prints a Markdown table of medians of interleaved pairs: each T-Grad call is timed beside a Saliency
call on the same batch, so that whatever else the machine does hits both. Each number is from a
process of its own, because memory that other networks have left behind changes it. Run:

    python -m benchmarks.attribution_cost [--pairs 15] [--cases vgg16 LSTM] [--methods] [--check]
        [--autocast] [--batch 8]
"""

from __future__ import annotations

import argparse
import copy
from functools import partial

import torch
from captum.attr import IntegratedGradients, NoiseTunnel, Saliency
from pytorch_grad_cam import FullGrad
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.cases import CASES
from benchmarks.measure import Call, compare, in_own_process, machine, random_model
from captum_tgrad import FullGradAttribution, TGradAttribution


def cost_of_t_grad(options: argparse.Namespace) -> list[str]:
    """Prints the ratio to Saliency, case by case.

    Returns:
        The names of the cases that are above their limit.
    """
    print("| case | T-Grad / Saliency | channels_last | at most |")
    print("|---|---|---|---|")
    above = []
    for number, case in enumerate(CASES):
        if not any(part in case.name for part in options.cases):
            continue
        formats = (False, True) if len(case.shape) == 4 else (False,)
        ratios = [in_own_process(ratio_of, number, last, options) for last in formats]
        if ratios[0] > case.limit:
            above.append(case.name)
        cells = [f"{each:.2f}" for each in ratios] + ["-"] * (2 - len(ratios))
        print(f"| {case.name} | {' | '.join(cells)} | {case.limit} |", flush=True)
    return above


def ratio_of(number: int, channels_last: bool, options: argparse.Namespace) -> float:
    """The time of T-Grad relative to Saliency on one of ``CASES``."""
    device, _ = machine()
    case = CASES[number]
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    model, images = case.make(device, options.batch)
    model = model.to(memory_format=memory_format)
    images = images.detach().to(memory_format=memory_format).requires_grad_()
    t_grad, saliency = TGradAttribution(model), Saliency(model)
    one = partial(t_grad.attribute, images, target=0, channel_dim=case.channel_dim)
    other = partial(saliency.attribute, images, target=0)
    with torch.autocast(device.type, enabled=options.autocast):
        return compare(one, other, options.pairs, device, warm_up=2)[0]


def cost_of_methods(options: argparse.Namespace, device: torch.device) -> None:
    """Prints what other methods cost on resnet50, as in the paper's Fig. 3, and FullGrad."""
    model = random_model("resnet50").to(device)
    images = torch.randn(1, 3, 224, 224, device=device)
    t_grad = partial(TGradAttribution(model).attribute, images, target=0)
    full_grad = partial(FullGradAttribution(model).attribute, images, target=0)
    integrated = partial(
        IntegratedGradients(model).attribute, images, target=0, n_steps=50, internal_batch_size=10
    )
    noisy = partial(
        NoiseTunnel(Saliency(model)).attribute,
        images.clone(),
        target=0,
        nt_samples=50,
        nt_samples_batch_size=10,
        stdevs=0.1,
    )
    # While it lives, it keeps the activations of whatever else runs the model.
    with FullGrad(copy.deepcopy(model), []) as theirs:
        calls: dict[str, tuple[Call, Call]] = {
            "IntegratedGradients, 50 steps / T-Grad": (integrated, t_grad),
            "NoiseTunnel(Saliency), 50 samples / T-Grad": (noisy, t_grad),
            "FullGrad / T-Grad": (full_grad, t_grad),
            "pytorch_grad_cam.FullGrad / FullGrad": (
                partial(theirs, images, [ClassifierOutputTarget(0)]),
                full_grad,
            ),
        }
        print("\n| resnet50, one image | ratio |\n|---|---|")
        for name, (one, other) in calls.items():
            ratio = compare(one, other, max(3, options.pairs // 3), device, warm_up=2)[0]
            print(f"| {name} | {ratio:.2f} |", flush=True)


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
    above = cost_of_t_grad(options)
    if options.methods:
        cost_of_methods(options, device)
    if options.check and above:
        raise SystemExit("above the limit: " + "; ".join(above))


if __name__ == "__main__":
    main()
