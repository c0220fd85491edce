"""The options of ``captum-tgrad explain``."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_tgrad.cli.options import add_common_options, add_shared, positive

_LAYERS = 9


def add_explain(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "explain",
        help="draw the evidence for a class in images",
        description="Prints the largest terms of the output for every image. Writes DIR/NAME.png (a"
        " figure) and DIR/NAME.npy (the T-Grad map as an array of height x width) for every image,"
        " and DIR/report.html for the run. The exit status is 1 if an image cannot be read.",
        examples=(
            "explain photo.jpg",
            "explain photos/ --out explained/ --target tabby --layers --page",
        ),
    )
    images = "images to explain, or folders of them (default: a photograph of a cup of coffee)"
    add_shared(parser, "images", help=images)
    add_shared(parser, "--out", default=Path("explained"))
    add_shared(parser, "--target")
    parser.add_argument(
        "--aggregation",
        choices=["paper", "levels"],
        default="paper",
        help="how terms are combined; paper: weighted by their scores; levels: all resolutions"
        " equally, guided by the coarsest (default: %(default)s)",
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
        help="also write DIR/NAME.html: a self-contained page to walk through the explanation term"
        " by term; it shows the map of --aggregation paper",
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
