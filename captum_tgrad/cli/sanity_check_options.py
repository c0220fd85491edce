"""What ``captum-tgrad sanity-check`` understands."""

from __future__ import annotations

import argparse

from captum_tgrad.cli.help_text import HelpWithExamples, examples
from captum_tgrad.cli.options import (
    add_common_options,
    add_out_option,
    add_pictures,
    add_target_option,
    not_negative,
    positive,
)


def add_sanity_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "sanity-check",
        help="draw what becomes of a map when the network forgets what it has learned",
        description="Randomizes the network layer by layer, from its output to its input, on a"
        " copy. Writes DIR/METHOD-MODE.png, the maps on the way and how similar they are to that of"
        " the trained network, and DIR/METHOD-MODE.csv, the numbers.",
        epilog=examples(
            "sanity-check photo.jpg --out checked/",
            "sanity-check photo.jpg --method grad_cam --mode independent",
        ),
        formatter_class=HelpWithExamples,
        allow_abbrev=False,
    )
    add_pictures(parser)
    add_out_option(parser, "sanity-check")
    parser.add_argument(
        "--method", default="t_grad", metavar="NAME", help="by name (default: %(default)s)"
    )
    add_target_option(parser)
    parser.add_argument(
        "--layers",
        default="blocks",
        metavar="NAMES",
        help="names of modules, separated by commas, each randomized with all that is in it; all:"
        " each module with parameters by itself; blocks: the parts that the network is built of"
        " (default: %(default)s)",
    )
    parser.add_argument(
        "--mode",
        choices=["cascading", "independent"],
        default="cascading",
        help="layers stay random, or one at a time is (default: %(default)s)",
    )
    parser.add_argument(
        "--columns",
        type=positive,
        default=7,
        metavar="N",
        help="steps whose maps are drawn, 2 or more (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=not_negative,
        default=0,
        metavar="N",
        help="of the new values (default: %(default)s)",
    )
    add_common_options(parser)
