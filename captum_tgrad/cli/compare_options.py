"""The options of ``captum-tgrad compare``."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_tgrad.cli.options import (
    add_common_options,
    add_methods_options,
    add_shared,
    named_path,
)


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
    add_methods_options(parser)
    add_shared(parser, "--target", "--n-steps", "--max-examples-per-batch")
    add_common_options(parser)
