"""What ``captum-tgrad compare`` understands."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_tgrad.cli.options import add_device_option, add_model_options, positive


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help="compare attribution methods on one picture",
        description="Writes DIR/methods.png, the map of every method over the picture;"
        " DIR/curves.png, the insertion and deletion curves; DIR/table.md, five metrics and the"
        " seconds; and DIR/report.html, all of it in one page. The exit status is 1 where a method"
        " could not run.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "picture",
        nargs="?",
        type=Path,
        metavar="PICTURE",
        help="the picture (default: a photograph of a cup of coffee)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("compared"),
        metavar="DIR",
        help="the folder to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--methods",
        default="all",
        metavar="NAMES",
        help="names of methods, separated by commas, or all (default: %(default)s)",
    )
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="a TOML file with further methods"
    )
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="index or name of the class to explain (default: the one that the network chooses)",
    )
    parser.add_argument(
        "--n-steps",
        type=positive,
        default=224,
        metavar="N",
        help="steps of the curves (default: %(default)s)",
    )
    parser.add_argument(
        "--max-examples-per-batch",
        type=positive,
        default=64,
        metavar="N",
        help="changed pictures scored at a time; changes no number (default: %(default)s)",
    )
    add_device_option(parser)
    add_model_options(parser)
