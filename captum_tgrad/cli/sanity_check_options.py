"""The options of ``captum-tgrad sanity-check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_tgrad.cli.options import add_common_options, add_shared, positive


def add_sanity_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sanity-check",
        help="compare maps under parameter randomization (Adebayo et al. 2018)",
        description="Randomizes a copy of the network layer by layer, from output to input. Writes"
        " DIR/METHOD-MODE.png (the maps and their similarity to the map of the trained network),"
        " DIR/METHOD-MODE.html (a report) and DIR/METHOD-MODE.csv (the numbers).",
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
    parser.add_argument(
        "--mode",
        choices=["cascading", "independent"],
        default="cascading",
        help="cascading: keep earlier layers random; independent: one layer at a time (default:"
        " %(default)s)",
    )
    parser.add_argument(
        "--columns",
        type=positive,
        default=7,
        metavar="N",
        help="number of steps to draw, 2 or more (default: %(default)s)",
    )
    add_shared(parser, "--seed")
    add_common_options(parser)
