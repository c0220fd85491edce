"""The parser of the command line, with the help of every command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import captum_tgrad
from captum_tgrad._support.printable import printable
from captum_tgrad._support.suggest import did_you_mean
from captum_tgrad.cli.evaluate_options import add_evaluate
from captum_tgrad.cli.options import (
    add_choice,
    add_common_options,
    add_shared,
    named_path,
    positive,
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
    for command in commands.choices.values():
        command.commands = commands.choices
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


def add_sanity_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sanity-check",
        help="compare maps under parameter randomization (Adebayo et al. 2018)",
        description="Randomizes a copy of the network layer by layer. Writes DIR/METHOD-MODE.png"
        " (the maps and their similarity to the map of the trained network), DIR/METHOD-MODE.html"
        " (a report) and DIR/METHOD-MODE.csv (the numbers).",
        examples=(
            "sanity-check photo.jpg --out checked/",
            "sanity-check photo.jpg --method grad_cam --mode independent",
        ),
    )
    add_shared(parser, "images")
    add_shared(parser, "--out", default=Path("sanity-check"))
    parser.add_argument(
        "--method", default="t_grad", metavar="NAME", help="method name (default: %(default)s)"
    )
    add_shared(parser, "--target")
    parser.add_argument(
        "--layers",
        default="blocks",
        metavar="NAMES",
        help="module names, separated by commas, each randomized with its submodules; all: each"
        " module with parameters separately; blocks: the network's building blocks (default:"
        " %(default)s)",
    )
    meaning = (
        "cascading: keep earlier layers random; bottom_up: the same from the input to the output;"
        " independent: one layer at a time"
    )
    add_choice(parser, "--mode", ["cascading", "bottom_up", "independent"], meaning)
    parser.add_argument(
        "--columns",
        type=positive,
        default=7,
        metavar="N",
        help="number of steps to draw, 2 or more (default: %(default)s)",
    )
    add_shared(parser, "--seed")
    add_common_options(parser)


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help="compare attribution methods on one image",
        description="Writes DIR/methods.png (the map of every method over the image),"
        " DIR/curves.png (the insertion and deletion curves), DIR/table.md (the metrics and"
        " seconds) and DIR/report.html (all of these on one page). The exit status is 1 if a method"
        " could not run.",
        examples=(
            "compare photo.jpg --out compared/",
            "compare photo.jpg --methods t_grad,grad_cam,saliency --n-steps 14",
        ),
    )
    parser.add_argument(
        "image",
        nargs="?",
        type=named_path,
        metavar="IMAGE",
        help="the image (default: a photograph of a cup of coffee)",
    )
    add_shared(parser, "--out", default=Path("compared"))
    add_shared(parser, "--methods", "--config", "--allow-imports")
    add_shared(parser, "--target", "--n-steps", "--max-examples-per-batch")
    add_common_options(parser)


_LAYERS = 9


def add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "explain",
        help="draw the evidence for a class in images",
        description="Explains images with T-Grad; for other methods, see compare. Prints the"
        " largest terms of the output for every image. Writes DIR/NAME.png (a figure) and"
        " DIR/NAME.npy (the map of the evidence for the class, as an array of height x width) for"
        " every image, and DIR/report.html for the run. The exit status is 1 if an image cannot be"
        " read.",
        examples=(
            "explain photo.jpg",
            "explain photos/ --out explained/ --target tabby --layers --page",
        ),
    )
    images = "images to explain, or folders of them (default: a photograph of a cup of coffee)"
    add_shared(parser, "images", help=images)
    add_shared(parser, "--out", default=Path("explained"))
    add_shared(parser, "--target")
    add_choice(
        parser,
        "--aggregation",
        ["paper", "levels"],
        "how terms are combined; paper: weighted by their scores; levels: all resolutions equally,"
        " guided by the coarsest",
    )
    parser.add_argument(
        "--layers",
        nargs="?",
        type=_terms,
        const=_LAYERS,
        metavar="N",
        help="also write DIR/NAME-layers.png: the maps of the input and of the N - 1 largest terms"
        f" for the class, and the scores of all terms (default N: {_LAYERS})",
    )
    parser.add_argument(
        "--page",
        action="store_true",
        help="also write DIR/NAME.html: a self-contained page of the evidence for and against the"
        " class, term by term; it shows the map of --aggregation paper",
    )
    parser.add_argument(
        "--rival",
        metavar="CLASS",
        help="name or index of the class that the page compares with the explained one (default:"
        " the most probable other class)",
    )
    add_shared(parser, "--batch-size", default=16)
    add_common_options(parser)


def _terms(text: str) -> int:
    """The number of terms; an image after a plain ``--layers`` is read as one."""
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        is_number = text.lstrip("+-").replace(".", "").isdigit()
        hint = (
            f"pass the number of maps to draw, or --layers alone for {_LAYERS}"
            if is_number
            else "write images before --layers"
        )
        raise argparse.ArgumentTypeError(f"{error}: {hint}") from None
