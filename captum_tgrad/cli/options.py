"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Adds what says which network is meant, and where it is to compute."""
    group = parser.add_argument_group("the network")
    group.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0, or torchvision:NAME for any classifier of torchvision, such as"
        " torchvision:resnet50 (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights, saved with torch.save(model.state_dict(), FILE) (default: the published)",
    )
    group.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="the names of the classes, one a line (default: those of ImageNet)",
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds what says where to compute."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to compute, such as cpu or cuda:0 (default: a GPU where there is one)",
    )


def positive(text: str) -> int:
    """A whole number above 0."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return number
