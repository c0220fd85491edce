"""The parser of the command line, which suggests what a mistyped option may mean."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

import captum_tgrad
from captum_tgrad._support.printable import printable
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.cli.command_options import (
    add_compare,
    add_evaluate,
    add_explain,
    add_lists,
    add_sanity_check,
)

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
    add_lists(commands)
    for command in commands.choices.values():
        command.commands = commands.choices
    return parser


class _Help(argparse.HelpFormatter):
    """Leaves the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(_EXAMPLES) else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """The parser of the program or of a command.

    Its help ends with ``examples``, commands without the name of the program, and its messages
    have no control characters. ``commands`` are the parsers of all commands.
    """

    def __init__(self, *, examples: Sequence[str], **options: Any) -> None:
        epilog = "\n".join([_EXAMPLES, *(f"  {PROGRAM} {example}" for example in examples)])
        super().__init__(formatter_class=_Help, allow_abbrev=False, epilog=epilog, **options)
        self.commands: dict[str, _Parser] = {}

    def parse_known_args(self, *arguments: Any) -> tuple[Any, list[str]]:  # type: ignore[override]
        """Refuses arguments that are not known, with the advice of the command."""
        found, unknown = super().parse_known_args(*arguments)
        if unknown:
            advice = self._advice(unknown[0].partition("=")[0])
            self.error(f"unrecognized arguments: {' '.join(unknown)}{advice}")
        return found, unknown

    def _advice(self, unknown: str) -> str:
        options = self._option_string_actions
        if unknown.startswith("-"):
            others = {name: each._option_string_actions for name, each in self.commands.items()}
            having = [name for name, known in others.items() if unknown in known]
            if near := did_you_mean(unknown, options, cutoff=0.9 if having else 0.7):
                return f": {near}"
            return f": it is an option of {' and '.join(having)}" if having else ""
        if "--methods" in options:
            return ": pass one path, and names separated by commas without spaces"
        return ""

    def error(self, message: str) -> NoReturn:
        """Exits with the error, without argparse's usage, which is a page long."""
        self.exit(2, f"{self.prog}: error: {printable(message)}\nsee {self.prog} --help\n")
