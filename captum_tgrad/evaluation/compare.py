"""All methods on one picture: their maps, the five metrics, the curves and the seconds."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from captum_tgrad.evaluation.methods.built_in import METHODS
from captum_tgrad.evaluation.methods.method import Method, black_picture
from captum_tgrad.evaluation.running.speed import (
    examples_at_once,
    examples_per_batch,
    in_fast_format,
)
from captum_tgrad.evaluation.running.timed_method import Explained, TimedMethod
from captum_tgrad.metrics import (
    InsertionDeletionResult,
    average_drop,
    increase_in_confidence,
    insertion_deletion,
)
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.normalization import normalization
from captum_tgrad.zoo.targets import resolve_target

if TYPE_CHECKING:
    from PIL.Image import Image


class NoMethodRanError(ValueError):
    """None of the methods can run; the message says why not."""


@dataclass(frozen=True)
class Compared:
    """What one method made of the picture.

    Attributes:
        title: Of the method, for figures and tables; with its name where others have the same.
        map: The attribution, summed over channels, ``(1, 1, H, W)``, on the CPU.
        curves: The areas under the curves, and the curves.
        average_drop: In percent; lower is better.
        increase_in_confidence: 100 or 0; higher is better.
        seconds: What the map took, after a first run that is not counted.
        residual: Of T-Grad, what its terms leave unexplained; None of others.
    """

    title: str
    map: Tensor
    curves: InsertionDeletionResult
    average_drop: float
    increase_in_confidence: float
    seconds: float
    residual: float | None


@dataclass(frozen=True)
class Comparison:
    """Several methods on one picture.

    Attributes:
        image: What the network saw: RGB, H x W pixels.
        inputs: The same as the network takes it, ``(1, C, H, W)``, on the CPU.
        mean: Of each channel, ``pixels = inputs * std + mean``, ``(C,)``.
        std: Likewise.
        model: The name of the network.
        class_name: Of the class that is explained.
        target: The index of the class.
        probability: Its softmax, in [0, 1].
        methods: By name, those that ran, in the order in which they were given.
        skipped: By title, why the others did not.
        protocol: How the numbers were made.
        notes: What a reader should know of them, such as ties.
    """

    image: Image
    inputs: Tensor
    mean: Tensor
    std: Tensor
    model: str
    class_name: str
    target: int
    probability: float
    methods: dict[str, Compared]
    skipped: dict[str, str]
    protocol: dict[str, Any]
    notes: tuple[str, ...]


def compare(
    classifier: Classifier,
    image: Image,
    methods: Sequence[Method] | None = None,
    target: int | str | None = None,
    *,
    n_steps: int = 224,
    max_examples_per_batch: int | None = None,
    progress: Callable[[str], None] = lambda title: None,
) -> Comparison:
    """Explains a picture with several methods, and scores their maps.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 1 and 5.

    Args:
        classifier: As from ``captum_tgrad.zoo.load_classifier``, on the device to compute on.
        image: An RGB picture of any size.
        methods: As from ``get_method``. None: all built-in ones.
        target: The index or the name of the class to explain. None: the predicted one.
        n_steps: Of the insertion and the deletion curve.
        max_examples_per_batch: How many changed pictures are scored at a time; changes no number
            but by rounding. None: 8 on a CPU, 64 elsewhere.
        progress: Called with the title of each method before it runs, and with "metrics".

    Returns:
        The comparison. A method that cannot run is among ``skipped``, with the reason.

    Raises:
        TypeError: ``target`` is neither an index nor a name.
        ValueError: There is no such class or no method, or one is given twice.
        NoMethodRanError: A ValueError: none of the methods can run.
    """
    methods = list(METHODS.values()) if methods is None else list(methods)
    if not methods:
        raise ValueError("methods is empty: give at least one, as from get_method")
    titles = _titles(methods)
    inputs = classifier.preprocess(image)[None]
    parameter = next(classifier.model.parameters(), inputs)
    inputs = in_fast_format(inputs.to(parameter.device))
    chunk = examples_per_batch(max_examples_per_batch, inputs.device)
    with torch.no_grad():
        # A model may overwrite what it is given.
        probabilities = classifier.model(inputs.clone()).softmax(dim=1)[0]
    index = (
        int(probabilities.argmax())
        if target is None
        else resolve_target(target, classifier.class_names)
    )
    at_once = examples_at_once(inputs.device)
    explained, skipped, notes = _explain(classifier, methods, inputs, index, at_once, progress)
    if not explained:
        raise NoMethodRanError(
            "none of the methods can run: "
            + "; ".join(f"{titles[name]}: {reason}" for name, reason in skipped.items())
        )
    progress("metrics")
    maps = {name: found.importance[None] for name, found in explained.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scored = _Scored(classifier.model, inputs, maps, index, n_steps, chunk)
    mean, std = normalization(classifier)
    return Comparison(
        image=classifier.crop(image),
        inputs=inputs.cpu(),
        mean=mean,
        std=std,
        model=classifier.name,
        class_name=classifier.class_names[index],
        target=index,
        probability=float(probabilities[index]),
        methods={name: scored.of(name, titles[name], found) for name, found in explained.items()},
        skipped={titles[name]: reason for name, reason in skipped.items()},
        protocol={**scored.protocol, "examples_at_once": at_once},
        notes=tuple(dict.fromkeys([*notes, *(str(each.message) for each in caught)])),
    )


def _explain(
    classifier: Classifier,
    methods: Sequence[Method],
    inputs: Tensor,
    target: int,
    examples_at_once: int,
    progress: Callable[[str], None],
) -> tuple[dict[str, Explained], dict[str, str], list[str]]:
    """What the methods made of the picture, why others made nothing, by name; and notes."""
    black = black_picture(classifier)
    targets = torch.tensor([target], device=inputs.device)
    explained: dict[str, Explained] = {}
    skipped: dict[str, str] = {}
    notes = []
    for method in methods:
        progress(method.title)
        timed = TimedMethod(method, classifier.model, black, 1, examples_at_once)
        (found,) = timed(inputs, targets, [0])
        if isinstance(found, str):
            skipped[method.name] = found
        else:
            explained[method.name] = found
        if timed.shortage is not None:
            notes.append(timed.shortage)
    return explained, skipped, notes


def _titles(methods: Sequence[Method]) -> dict[str, str]:
    """The titles by name, no two alike."""
    count = Counter(method.title for method in methods)
    titles = {
        method.name: method.title if count[method.title] == 1 else f"{method.title} ({method.name})"
        for method in methods
    }
    if len(titles) < len(methods):
        names = [method.name for method in methods]
        raise ValueError(f"methods must be given once each, got {names}")
    return titles


class _Scored:
    """The metrics of all maps, which share the scores of the picture and its baseline."""

    def __init__(
        self,
        model: nn.Module,
        inputs: Tensor,
        maps: Mapping[str, Tensor],
        target: int,
        n_steps: int,
        max_examples_per_batch: int,
    ) -> None:
        self.maps = maps
        self.curves = insertion_deletion(
            model,
            inputs,
            maps,
            target=target,
            n_steps=n_steps,
            max_examples_per_batch=max_examples_per_batch,
            return_curves=True,
        )
        self.drops = average_drop(
            model, inputs, maps, target=target, max_examples_per_batch=max_examples_per_batch
        )
        self.increases = increase_in_confidence(
            model, inputs, maps, target=target, max_examples_per_batch=max_examples_per_batch
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """How the curves were made, and what is left out of a masked picture goes to."""
        first = next(iter(self.maps))
        masked = self.drops[first].protocol["baseline"]
        return {**self.curves[first].protocol, "masked_part_goes_to": masked}

    def of(self, name: str, title: str, explained: Explained) -> Compared:
        """What is known of one method."""
        return Compared(
            title,
            self.maps[name].cpu(),
            self.curves[name],
            float(self.drops[name].average_drop),
            float(self.increases[name].increase_in_confidence),
            explained.seconds,
            explained.residual,
        )
