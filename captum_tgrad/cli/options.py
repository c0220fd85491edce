"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds where to compute, what is printed, and which network is meant."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to compute, such as cpu, cuda:1, mps or xpu (default: cuda where it is)",
    )
    group = parser.add_argument_group("what is printed")
    group.add_argument(
        "--json", action="store_true", help="print the results as JSON, and nothing else"
    )
    group.add_argument(
        "--quiet",
        action="store_true",
        help="print nothing but errors and what was skipped, and draw no progress bar",
    )
    group = parser.add_argument_group("the network")
    group.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0, efficientnet_lite1, efficientnet_lite2, squeezenet1_1, or"
        " torchvision:NAME for any classifier of torchvision, such as torchvision:resnet50"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        type=named_path,
        metavar="FILE",
        help="weights, saved with torch.save(model.state_dict(), FILE) (default: the published)",
    )
    group.add_argument(
        "--resize",
        choices=["crop", "squash", "pad"],
        default="crop",
        help="what the network sees of an image: a square from its middle, or all of it, squashed"
        " into a square or with a border around it (default: %(default)s, as it was trained)",
    )
    group.add_argument(
        "--class-names",
        type=named_path,
        metavar="FILE",
        help="the names of the classes, one a line (default: those of ImageNet)",
    )


def add_out_option(options: argparse._ActionsContainer, default: str) -> None:
    """Adds where results are written to."""
    options.add_argument(
        "--out",
        type=named_path,
        default=Path(default),
        metavar="DIR",
        help="the folder to write to (default: %(default)s)",
    )


def add_pictures(options: argparse._ActionsContainer, or_folders: str = "") -> None:
    """Adds the images of commands that take several."""
    options.add_argument(
        "images",
        nargs="*",
        type=named_path,
        metavar="IMAGE",
        help=f"images to explain{or_folders} (default: a photograph of a cup of coffee)",
    )


def add_target_option(options: argparse._ActionsContainer) -> None:
    """Adds which class is to be explained."""
    options.add_argument(
        "--target",
        metavar="CLASS",
        help="index or name of the class to explain (default: the one that the network chooses)",
    )


def add_methods_options(options: argparse._ActionsContainer) -> None:
    """Adds which methods are compared."""
    options.add_argument(
        "--methods",
        default="all",
        metavar="NAMES",
        help="names of methods, separated by commas, or all (default: %(default)s)",
    )
    options.add_argument(
        "--config",
        type=named_path,
        metavar="FILE",
        help="a TOML file with further methods; it is code: give none that you do not trust",
    )
    options.add_argument(
        "--allow-imports",
        action="append",
        type=_package,
        default=[],
        metavar="PACKAGE",
        help="let --config name classes of this package, too, besides captum, pytorch_grad_cam and"
        " captum_tgrad; may be given several times",
    )


def add_n_steps_option(options: argparse._ActionsContainer) -> None:
    """Adds how finely the curves are walked."""
    options.add_argument(
        "--n-steps",
        type=positive,
        default=224,
        metavar="N",
        help="steps of the curves (default: %(default)s)",
    )


def add_max_examples_option(options: argparse._ActionsContainer) -> None:
    """Adds how many changed images are scored at a time."""
    options.add_argument(
        "--max-examples-per-batch",
        type=positive,
        metavar="N",
        help="changed images scored at a time; changes numbers by rounding only (default: 8 on a"
        " CPU, 64 on a GPU)",
    )


def named_path(text: str) -> Path:
    """A path, which the empty name is not: it would stand for the working folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"is empty ({text!r}): give the name of a file or folder")
    return Path(text)


def _package(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(f"{text!r} is no package: give a name as in import NAME")
    return text


def positive(text: str) -> int:
    """A whole number above 0."""
    return _at_least(1, text, "a whole number above 0")


def not_negative(text: str) -> int:
    """A whole number, 0 or above."""
    return _at_least(0, text, "0 or a whole number above it")


def _at_least(least: int, text: str, wanted: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"must be {wanted}, not {text!r}")
    return number


def duration(text: str) -> float:
    """Seconds, from ``"90s"``, ``"30m"``, ``"2h"`` or a number of seconds."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:].casefold())
    try:
        seconds = float(text) if unit is None else float(text[:-1]) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give one such as 90s, 30m or 2h")
    return seconds
