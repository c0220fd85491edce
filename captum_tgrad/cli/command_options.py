"""The options of each command."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_tgrad.cli.options import (
    add_choice,
    add_common_options,
    add_shared,
    duration,
    named_path,
    positive,
)

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


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help="compare attribution methods on one image",
        description="Explains one image with every method, and scores the maps. Writes"
        " DIR/methods.png (the maps over the image), DIR/curves.png (the insertion and deletion"
        " curves), DIR/table.md (the metrics and seconds) and DIR/report.html (all of these on one"
        " page). The exit status is 1 if a method could not run.",
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


_QUICK_STEPS = 14


def add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "evaluate",
        help="compare attribution methods on a data set",
        description="Scores every method on every image by Insertion, Deletion, their difference,"
        " Average Drop and Increase in Confidence. Writes DIR/records*.jsonl (one line per image"
        " and method, as soon as it is computed), DIR/protocol.json (the settings, for --resume),"
        " DIR/summary.json, DIR/summary.csv, DIR/table.md, DIR/metrics.png, DIR/seconds.png and"
        " DIR/report.html (one page with all of these and the maps of three images). Under"
        " torchrun, the images are divided among the processes. The exit status is 1 if an image or"
        " a method was skipped.",
        examples=(
            "evaluate photos/ --out results/ --quick",
            "evaluate photos/ --out results/ --quick --resume --methods t_grad --budget 30m",
        ),
    )
    parser.add_argument(
        "images",
        nargs="?",
        type=lambda text: str(named_path(text)),
        default="built-in",
        metavar="IMAGES",
        help="folder of images, or of one folder per class; built-in: 20 labeled ImageNet images"
        " (default: %(default)s)",
    )
    add_shared(parser, "--out", required=True, help="output folder")
    parser.add_argument("--resume", action="store_true", help="continue the run in DIR")
    parser.add_argument(
        "--budget",
        type=duration,
        metavar="TIME",
        help="time limit, such as 90s, 30m or 2h; a batch that is being explained is not"
        " interrupted; loading the network and writing the report do not count; images are in"
        " random order, so the finished ones are a random sample",
    )
    _add_protocol(parser)
    add_shared(parser, "--batch-size", default=8)
    add_shared(parser, "--max-examples-per-batch")
    add_common_options(parser)


def _add_protocol(parser: argparse.ArgumentParser) -> None:
    """Adds the options that the numbers depend on."""
    group = parser.add_argument_group("protocol")
    add_shared(group, "--methods", "--config", "--allow-imports")
    group.add_argument(
        "--labels",
        type=named_path,
        metavar="CSV",
        help="labels for --target label: a CSV file; each line has an image path relative to IMAGES"
        " and its class",
    )
    group.add_argument(
        "--boxes",
        type=named_path,
        metavar="CSV",
        help="object boxes, for Pointing Game, Energy in Mask, Mass Accuracy and Rank Accuracy: a"
        " CSV file (each line has an image path relative to IMAGES and its boxes, x0 y0 x1 y1 in"
        " pixels, joined by ;) or a folder of Pascal VOC XML files",
    )
    choices = ["predicted", "label"]
    add_choice(group, "--target", choices, "explain the predicted class or the image's label")
    group.add_argument(
        "--limit", type=positive, metavar="N", help="only the first N images (default: all)"
    )
    steps = group.add_mutually_exclusive_group()
    add_shared(steps, "--n-steps")
    steps.add_argument(
        "--quick",
        dest="n_steps",
        action="store_const",
        const=_QUICK_STEPS,
        help=f"{_QUICK_STEPS} steps instead of 224; the report estimates the error",
    )
    choices = ["softmax", "logit"]
    add_choice(group, "--score", choices, "score images by the target's probability or logit")
    add_choice(
        group,
        "--score-dtype",
        ["float32", "bfloat16"],
        "bfloat16: score images in half precision, faster on hardware that supports it; maps stay"
        " in float32",
    )
    choices = ["stable", "group"]
    meaning = "replace pixels of equal importance in raster order, or together"
    add_choice(group, "--ties", choices, meaning)
    add_shared(group, "--seed")


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


def add_lists(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the commands that list the methods and the networks."""
    for name, summary, description in (
        (
            "methods",
            "list the attribution methods with their cost and source",
            "Lists the methods that compare, evaluate and sanity-check accept by name.",
        ),
        (
            "models",
            "list the networks for --model",
            "Lists the networks with their size, the cost of a forward pass, and the source of"
            " their ImageNet weights.",
        ),
    ):
        examples = (name, f"{name} --json")
        parser = commands.add_parser(name, help=summary, description=description, examples=examples)
        parser.add_argument("--json", action="store_true", help="print the list as JSON")
        parser.set_defaults(quiet=False)
