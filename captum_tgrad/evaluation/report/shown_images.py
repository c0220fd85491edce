"""The images of a report: which ones, and the recomputed maps of all methods."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from matplotlib.figure import Figure

from captum_tgrad.evaluation.methods.method import image_seed
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.evaluation.running.settings import channels_last
from captum_tgrad.evaluation.running.timed_method import ExplainedImage, TimedMethod
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage.records import Record
from captum_tgrad.visualization.method_figures import methods_figure
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.preprocessing import normalization

_DRAWN_CHANNELS = (1, 3)
_CONTROL = "random"


def chosen_images(
    records: Sequence[Record], available: Collection[str]
) -> list[tuple[str, str, str]]:
    """Chooses up to three of the available images by Insertion - Deletion.

    Returns, for each, ``"Best"``, ``"Worst"`` or ``"Most disputed"``, its name, and a sentence why.
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
            chosen.append((kind, image, reason))
    return chosen


def draw_images(
    records: Sequence[Record],
    summary: Summary,
    samples: Samples,
    methods: Mapping[str, TimedMethod],
    device: torch.device,
    classifier: Classifier | None,
) -> Iterator[tuple[str, str, Figure]]:
    """Computes the maps of the best, the worst and the most disputed image, and draws them.

    Yields a heading, the reason of the choice, and the figure.

    An evaluation keeps no maps: thirteen maps of each of 50,000 images are too many. Recomputing
    those of three images is cheap, and also works in a resumed or distributed run. With the seed of
    the evaluation, random numbers are the same. The class names and the normalization are those of
    the classifier, if there is one. Images without 1 or 3 channels and methods that fail are left
    out.
    """
    names = () if classifier is None else classifier.class_names
    mean, std = (None, None) if classifier is None else normalization(classifier)
    scored = [each for each in records if each["difference"] is not None]
    for kind, chosen, reason in chosen_images(scored, {*samples.names}):
        try:
            image, _ = samples[samples.names.index(chosen)]
        except ValueError:
            continue
        if len(image) not in _DRAWN_CHANNELS:
            continue
        inputs = channels_last(image[None].to(device))
        seeds = [image_seed(chosen, summary["protocol"]["seed"])]
        # Best first; records of other methods are from an earlier run in this folder.
        of_image = sorted(
            (each for each in scored if each["image"] == chosen),
            key=lambda each: -each["difference"],
        )
        maps = {}
        for record in of_image:
            name, score = record["method"], record["difference"]
            if name in methods:
                target = torch.tensor([record["target"]], device=device)
                (found,) = methods[name](inputs, target, seeds)
                if isinstance(found, ExplainedImage):
                    # Adding 0.0 turns -0.0 into 0.0.
                    title = f"{summary['methods'][name]['title']}: {round(score, 2) + 0.0:.2f}"
                    maps[title] = found.importance.cpu()
        if maps:
            index = of_image[0]["target"]
            what = f"{names[index]} ({index})" if index < len(names) else f"class {index}"
            figure = methods_figure(image, maps, title=what, mean=mean, std=std)
            yield f"{kind} image: {chosen}", reason, figure
