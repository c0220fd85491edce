"""What the command ``captum-tgrad`` understands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import captum_tgrad
from captum_tgrad.cli.errors import CommandError
from captum_tgrad.cli.evaluate_options import add_evaluate
from captum_tgrad.cli.options import add_device_option, add_model_options, positive

_PROGRAM = "captum-tgrad"
_USAGE_ERROR = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: What was typed after the program's name. None: what this process was given.

    Returns:
        The exit status: 0, 1 where ``evaluate`` skipped something, or 2 where the command cannot
        be carried out as it was typed.
    """
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except CommandError as error:
        message = " ".join(str(error).split())
        print(f"{_PROGRAM}: error: {message}", file=sys.stderr)
        return _USAGE_ERROR
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    # Imported here: the networks' libraries take seconds to load, and --help needs none of them.
    if options.command == "evaluate":
        from captum_tgrad.cli.evaluate import run_evaluate

        return run_evaluate(options)
    from captum_tgrad.cli.explain import run_explain

    run_explain(options)
    return 0


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
    add_evaluate(commands)
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
        type=positive,
        default=16,
        metavar="N",
        help="pictures explained at a time (default: %(default)s)",
    )
    add_device_option(parser)
    add_model_options(parser)
