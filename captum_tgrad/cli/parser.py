"""The parser of the command line, with the help of every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

import captum_tgrad
from captum_tgrad._support.printable import printable
from captum_tgrad.cli.compare_options import add_compare
from captum_tgrad.cli.evaluate_options import add_evaluate
from captum_tgrad.cli.explain_options import add_explain
from captum_tgrad.cli.sanity_check_options import add_sanity_check

PROGRAM = "captum-tgrad"
_EXAMPLES = "examples:"


def command_line() -> argparse.ArgumentParser:
    """The parser of the program."""
    parser = _Parser(
        prog=PROGRAM,
        description="Draws the pixels that an image classifier uses, and measures how faithful"
        " such maps are.",
        examples=("explain photo.jpg", "compare photo.jpg", "explain --help"),
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {captum_tgrad.__version__}"
    )
    commands: Any = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_explain(commands)
    add_compare(commands)
    add_evaluate(commands)
    add_sanity_check(commands)
    _add_list(
        commands,
        "methods",
        "list the attribution methods with their cost and source",
        "Lists the methods that compare, evaluate and sanity-check accept by name.",
    )
    _add_list(
        commands,
        "models",
        "list the networks for --model",
        "Lists the networks with their size, the cost of a forward pass, and the source of their"
        " ImageNet weights.",
    )
    return parser


def _add_list(commands: Any, name: str, summary: str, description: str) -> None:
    examples = (name, f"{name} --json")
    parser = commands.add_parser(name, help=summary, description=description, examples=examples)
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(quiet=False)


class _Help(argparse.HelpFormatter):
    """Leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """The parser of the program or of a command.

    Its help ends with ``examples``, commands without the name of the program, and its messages
    have no control characters.
    """

    def __init__(self, *, examples: Sequence[str], **options: Any) -> None:
        epilog = "\n".join([_EXAMPLES, *(f"  {PROGRAM} {example}" for example in examples)])
        super().__init__(formatter_class=_Help, allow_abbrev=False, epilog=epilog, **options)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))
