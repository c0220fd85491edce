"""The options of ``captum-tgrad evaluate``."""

from __future__ import annotations

import argparse

from captum_tgrad.cli.options import (
    add_choice,
    add_common_options,
    add_shared,
    duration,
    named_path,
    positive,
)

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
        help="time limit, such as 90s, 30m or 2h; loading the network and writing the report do not"
        " count; images are in random order, so the finished ones are a random sample",
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
