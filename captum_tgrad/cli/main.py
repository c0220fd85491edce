"""What the command ``captum-tgrad`` understands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import captum_tgrad
from captum_tgrad.cli.errors import CommandError

_PROGRAM = "captum-tgrad"
_USAGE_ERROR = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: What was typed after the program's name. None: what this process was given.

    Returns:
        The exit status: 0, or 2 where the command cannot be carried out as it was typed.
    """
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except CommandError as error:
        message = " ".join(str(error).split())
        print(f"{_PROGRAM}: error: {message}", file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _run(options: argparse.Namespace) -> None:
    # Imported here: the networks' libraries take seconds to load, and --help needs none of them.
    from captum_tgrad.cli.explain import run_explain

    run_explain(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Explains convolutional networks with T-Grad.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"{_PROGRAM} {captum_tgrad.__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_explain(commands)
    return parser


def _add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="draw which parts of pictures speak for a class",
        description="Writes DIR/NAME.png, a figure, and DIR/NAME.npy, the T-Grad map as an array of"
        " height x width, for every picture, and prints what the network's answer is made of.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "pictures",
        nargs="*",
        type=Path,
        metavar="PICTURE",
        help="pictures to explain (default: a photograph of a cup of coffee)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder to write to"
    )
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="index or name of the class to explain (default: the one that the network chooses)",
    )
    parser.add_argument(
        "--batch-size",
        type=_positive,
        default=16,
        metavar="N",
        help="pictures explained at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="where to compute, such as cpu or cuda:0 (default: a GPU where there is one)",
    )
    _add_model_options(parser)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
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


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return number
