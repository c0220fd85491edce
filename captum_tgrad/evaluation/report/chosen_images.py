"""Chooses the images of a report: the best, the worst and the most disputed one."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

from captum_tgrad.evaluation.storage.records import Record

_CONTROL = "random"


class ChosenImage(NamedTuple):
    """An image, and why it was chosen.

    Attributes:
        image: Its name.
        kind: ``"Best"``, ``"Worst"`` or ``"Most disputed"``.
        reason: A sentence.
    """

    image: str
    kind: str
    reason: str


def chosen_images(records: Sequence[Record], available: Collection[str]) -> list[ChosenImage]:
    """Chooses by Insertion - Deletion, among the images with the most records.

    The random control does not count. No image is chosen twice.

    Args:
        records: The records of all images and methods.
        available: The images that can be loaded.

    Returns:
        Up to three images.
    """
    scores: dict[str, list[float]] = {}
    methods = {record["method"] for record in records}
    for record in records:
        if record["image"] not in available or record["difference"] is None:
            continue
        if record["method"] != _CONTROL or methods == {_CONTROL}:
            scores.setdefault(record["image"], []).append(record["difference"])
    most = max(map(len, scores.values()), default=0)
    left = {image: each for image, each in sorted(scores.items()) if len(each) == most}
    chosen = []
    for kind, measure, reason in (
        ("Best", statistics.fmean, "The highest mean of Insertion - Deletion over the methods"),
        (
            "Worst",
            lambda each: -statistics.fmean(each),
            "The lowest mean of Insertion - Deletion over the methods",
        ),
        (
            "Most disputed",
            statistics.pstdev,
            "Of the other images, the largest standard deviation of Insertion - Deletion over the"
            " methods",
        ),
    ):
        if left:
            image = max(left, key=lambda name: measure(left[name]))
            value = abs(measure(left.pop(image)))
            chosen.append(ChosenImage(image, kind, f"{reason}: {value:.3f}."))
    return chosen
