"""Options of several commands."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any


def named_path(text: str) -> Path:
    """A path; an empty name is rejected, since it would mean the working directory."""
    if not text.strip():
        raise argparse.ArgumentTypeError(f"is empty ({text!r}): pass the name of a file or folder")
    return Path(text)


def _package(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a package: pass a name as in import NAME"
        )
    return text


def positive(text: str, least: int = 1) -> int:
    """An integer above 0, or of ``least`` or more."""
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        wanted = "a positive integer" if least else "an integer of 0 or more"
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
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: pass 90s, 30m or 2h")
    return seconds


_SHARED: dict[str, dict[str, Any]] = {
    "images": {
        "nargs": "*",
        "type": named_path,
        "metavar": "IMAGE",
        "help": "images to explain (default: a photograph of a cup of coffee)",
    },
    "--out": {
        "type": named_path,
        "metavar": "DIR",
        "help": "output folder (default: %(default)s)",
    },
    "--target": {
        "metavar": "CLASS",
        "help": "index or name of the class to explain (default: the predicted class)",
    },
    "--methods": {
        "default": "all",
        "metavar": "NAMES",
        "help": "method names, separated by commas, or all (default: %(default)s)",
    },
    "--config": {
        "type": named_path,
        "metavar": "FILE",
        "help": "TOML file with further methods; it can run code: use only files that you trust",
    },
    "--allow-imports": {
        "action": "append",
        "type": _package,
        "default": [],
        "metavar": "PACKAGE",
        "help": "also allow --config to import classes of this package, in addition to captum,"
        " pytorch_grad_cam and captum_tgrad; repeatable",
    },
    "--n-steps": {
        "type": positive,
        "default": 224,
        "metavar": "N",
        "help": "steps of the insertion and deletion curves (default: %(default)s)",
    },
    "--batch-size": {
        "type": positive,
        "metavar": "N",
        "help": "images explained at a time (default: %(default)s)",
    },
    "--max-examples-per-batch": {
        "type": positive,
        "metavar": "N",
        "help": "perturbed images per forward pass; changes results by rounding only (default: 8"
        " on a CPU, 64 on a GPU)",
    },
    "--seed": {
        "type": partial(positive, least=0),
        "default": 0,
        "metavar": "N",
        "help": "random seed, 0 or more (default: %(default)s)",
    },
}


def add_shared(options: argparse._ActionsContainer, *names: str, **changes: Any) -> None:
    """Adds arguments of several commands by name; ``changes`` are those of ``add_argument``."""
    for name in names:
        options.add_argument(name, **{**_SHARED[name], **changes})


def add_choice(
    options: argparse._ActionsContainer, name: str, choices: Sequence[str], meaning: str
) -> None:
    """Adds an option with choices, the first of which is the default."""
    help_text = f"{meaning} (default: %(default)s)"
    options.add_argument(name, choices=choices, default=choices[0], help=help_text)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for the device, for printed output and for the network."""
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="device, such as cpu, cuda:1, mps or xpu (default: cuda if available)",
    )
    group = parser.add_argument_group("output")
    group.add_argument("--json", action="store_true", help="print only the results, as JSON")
    group.add_argument(
        "--quiet",
        action="store_true",
        help="print only errors and skipped items, without a progress bar",
    )
    group = parser.add_argument_group("network")
    group.add_argument(
        "--model",
        default="efficientnet_lite0",
        metavar="NAME",
        help="efficientnet_lite0, efficientnet_lite1, efficientnet_lite2 or squeezenet1_1;"
        " torchvision:NAME for any torchvision classifier, such as torchvision:resnet50; or a"
        " Python file, which is run and must define classifier, a captum_tgrad.zoo.Classifier"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--weights",
        type=named_path,
        metavar="FILE",
        help="weights saved with torch.save(model.state_dict(), FILE) (default: published weights)",
    )
    add_choice(
        group,
        "--resize",
        ["crop", "squash", "pad"],
        "how an image is made square: center crop (as in training), resize without aspect ratio, or"
        " resize with a border",
    )
    group.add_argument(
        "--class-names",
        type=named_path,
        metavar="FILE",
        help="class names, one per line (default: ImageNet)",
    )
