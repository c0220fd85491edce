"""Compares methods on one image: their maps, curves, metrics and seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image
from torch import Tensor

from captum_tgrad._support.probabilities import probabilities_of
from captum_tgrad.evaluation.methods.built_in import METHODS, checked_methods, titles_of
from captum_tgrad.evaluation.methods.method import Method, black_image
from captum_tgrad.evaluation.report.summary import Summary, summarize
from captum_tgrad.evaluation.running.scoring import Scoring, numbers_of
from captum_tgrad.evaluation.running.settings import (
    Settings,
    channels_last,
    examples_at_once,
    examples_per_batch,
)
from captum_tgrad.evaluation.running.timed_method import ExplainedImage, TimedMethod
from captum_tgrad.evaluation.storage.records import Record, record_of
from captum_tgrad.metrics import InsertionDeletionResult
from captum_tgrad.zoo.classifier import Classifier, check_classifier, classified
from captum_tgrad.zoo.preprocessing import normalization


class NoMethodRanError(ValueError):
    """Raised if no method can run; the message lists the reasons."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """A comparison of several methods on one image.

    Attributes:
        image: The network's view of the image: RGB, H x W pixels.
        inputs: The input of the network, ``(1, C, H, W)``, on the CPU.
        mean: Per-channel mean used for normalization, ``(C,)``: ``pixels = inputs * std + mean``.
        std: Per-channel standard deviation used for normalization, ``(C,)``.
        class_name: The name of the explained class.
        target: The index of the explained class.
        probability: Its softmax probability, in [0, 1].
        titles: The titles of the methods that ran, by name.
        maps: Their attributions by name, summed over channels, ``(1, 1, H, W)``, on the CPU.
        curves: Their results of ``insertion_deletion`` with curves, by name.
        records: Their records by name, as written by ``evaluate``.
        summary: The summary of the records, as returned by ``evaluate``; lists methods that could
            not run.
        notes: Findings about the numbers, such as ties.
    """

    image: Image
    inputs: Tensor
    mean: Tensor
    std: Tensor
    class_name: str
    target: int
    probability: float
    titles: dict[str, str]
    maps: dict[str, Tensor]
    curves: dict[str, InsertionDeletionResult]
    records: dict[str, Record]
    summary: Summary
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Comparison of {', '.join(self.titles)} for {self.class_name} ({self.target})"


def compare(
    classifier: Classifier,
    image: Image,
    methods: Sequence[str | Method] = tuple(METHODS),
    target: int | str | None = None,
    *,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    progress: Callable[[str], None] = lambda title: None,
) -> Comparison:
    """Explains one image with several methods, and scores their maps like ``evaluate``.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 1 and 5.

    Args:
        classifier: A classifier, as returned by ``captum_tgrad.zoo.load_classifier``, on the device
            to use.
        image: An RGB image of any size.
        methods: Names in ``METHODS``, or methods of your own.
        target: The index or name of the class to explain. None: the predicted class.
        n_steps: As for ``insertion_deletion``.
        max_examples_per_batch: As for ``evaluate``.
        progress: Called with the title of each method before it runs, and with "metrics".

    Returns:
        The comparison. ``summary["skipped"]`` lists methods that cannot run, with the reason.

    Raises:
        TypeError: ``classifier`` is not a ``Classifier``, or ``target`` is neither an index nor a
            name.
        ValueError: The class is unknown, ``methods`` is empty, or a method occurs twice.
        NoMethodRanError: A ValueError: none of the methods can run.
    """
    check_classifier(classifier)
    chosen = checked_methods(methods)
    titles = titles_of(chosen)
    inputs, logits, targets = classified(classifier, [image], target)
    inputs, index = channels_last(inputs), int(targets)
    black, at_once = black_image(classifier), examples_at_once(inputs.device)
    timed = [TimedMethod(each, classifier.model, black, 1, at_once) for each in chosen]
    outcomes = {}
    for method in timed:
        progress(method.method.title)
        (outcomes[method.method.name],) = method(inputs, targets, [0])
    explained = {name: each for name, each in outcomes.items() if isinstance(each, ExplainedImage)}
    skipped = {name: each for name, each in outcomes.items() if isinstance(each, str)}
    if not explained:
        raise NoMethodRanError(
            "none of the methods can run: "
            + "; ".join(f"{titles[name]}: {reason}" for name, reason in skipped.items())
        )
    progress("metrics")
    chunk = examples_per_batch(max_examples_per_batch, inputs.device)
    settings = Settings("predicted", n_steps, 1, chunk, "softmax", "stable", 0)
    maps = {name: found.importance for name, found in explained.items()}
    results, findings = Scoring(classifier.model, settings)(inputs, targets, maps)
    records = {
        name: record_of(
            image="image", method=name, target=index, **numbers_of(results, name, found)
        )
        for name, found in explained.items()
    }
    protocol: dict[str, Any] = {
        "model": classifier.name,
        **settings.protocol(),
        "target": f"{classifier.class_names[index]} ({index})",
        "examples_at_once": at_once,
        "device": inputs.device.type,
    }
    reasons = [{"image": None, "method": name, "reason": why} for name, why in skipped.items()]
    mean, std = normalization(classifier)
    return Comparison(
        image=classifier.crop(image),
        inputs=inputs.cpu(),
        mean=mean,
        std=std,
        class_name=classifier.class_names[index],
        target=index,
        probability=float(probabilities_of(logits)[0, index]),
        titles={name: titles[name] for name in explained},
        maps={name: each.cpu() for name, each in maps.items()},
        curves=results["insertion_deletion"],
        records=records,
        summary=summarize(list(records.values()), reasons, titles, protocol),
        notes=(*(each.shortage for each in timed if each.shortage), *findings.messages()),
    )
