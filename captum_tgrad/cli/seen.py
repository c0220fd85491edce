"""The part of each image that the network saw."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad.cli.jobs import title_of
from captum_tgrad.cli.outcome import say_wrapped
from captum_tgrad.explanation.text_report import seen_lines
from captum_tgrad.zoo import Classifier
from captum_tgrad.zoo.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image


def say_seen(
    options: argparse.Namespace,
    classifier: Classifier,
    pictures: Sequence[tuple[Path | None, Image]],
) -> None:
    """Prints a line for every cropped image."""
    steps = classifier.preprocess
    if not isinstance(steps, Preprocessing):
        return
    for path, image in pictures:
        for line in seen_lines(image.size, steps.seen(*image.size)):
            say_wrapped(options, f"{title_of(path)}: {line}")
