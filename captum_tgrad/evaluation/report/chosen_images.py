"""Chooses the images of a report: the best, the worst and the most disputed one."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from typing import NamedTuple

from captum_tgrad.evaluation.storage.records import Record

_CONTROL = "random"


class ChosenImage(NamedTuple):
    """The name of an image, ``"Best"``, ``"Worst"`` or ``"Most disputed"``, and a sentence why."""

    image: str
    kind: str
    reason: str


def chosen_images(records: Sequence[Record], available: Collection[str]) -> list[ChosenImage]:
    """Chooses up to three of the available images by Insertion - Deletion.

    Only images with the most records are chosen. The random control does not count.
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
    for kind, measure, what in (
        ("Best", statistics.fmean, "The highest mean"),
        ("Worst", lambda each: -statistics.fmean(each), "The lowest mean"),
        ("Most disputed", statistics.pstdev, "Of the other images, the largest standard deviation"),
    ):
        if left:
            image = max(left, key=lambda name: measure(left[name]))
            value = abs(measure(left.pop(image)))
            reason = f"{what} of Insertion - Deletion over the methods: {value:.3f}."
            chosen.append(ChosenImage(image, kind, reason))
    return chosen
