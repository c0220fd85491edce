"""Explains a classifier's predictions for a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_tgrad._support.accelerator import device_of
from captum_tgrad.decomposition.combine import Aggregation, check_options
from captum_tgrad.decomposition.terms import Decomposition
from captum_tgrad.explanation.explanation import Explanation, Prediction, Rival, TermScore
from captum_tgrad.explanation.rival import rivals_of
from captum_tgrad.zoo.classifier import Classifier, check_classifier, classifier_logits
from captum_tgrad.zoo.preprocessing import Preprocessing
from captum_tgrad.zoo.targets import resolve_target

if TYPE_CHECKING:
    from PIL.Image import Image

_PREDICTIONS = 5
_LARGEST_TERMS = 10


def explain(
    classifier: Classifier,
    images: Sequence[Image],
    target: int | str | None = None,
    *,
    keep_terms: bool = False,
    aggregation: Aggregation = "paper",
    rival: int | str | bool = False,
) -> list[Explanation]:
    """Explains the predictions for several images, in one batch on the network's device.

    Args:
        classifier: As from ``captum_tgrad.zoo.load_classifier``.
        images: RGB images of any size, at least one.
        target: The index or name of the class to explain, the same for all images. None: the
            predicted class of each image.
        keep_terms: Whether to keep the maps of all terms, for ``layers_figure`` and
            ``Explanation.to_html``.
        aggregation: As for ``TGradAttribution.attribute``.
        rival: The index or name of a class to compare with; True, or for images where it is the
            target: the most probable other class. The terms of its logit and of the difference are
            also kept, which needs two more decompositions.

    Returns:
        One explanation for each image.

    Raises:
        TypeError: ``classifier`` is not one, ``images`` is not a list of Pillow images, or
            ``target`` or ``rival`` is neither an index nor a name.
        ValueError: ``images`` is empty, the class or aggregation is unknown, or the network does
            not return one logit for each class name.
    """
    from captum_tgrad import TGradAttribution

    check_classifier(classifier)
    check_options("positive", aggregation)
    if hasattr(images, "resize") and not isinstance(images, Tensor):
        raise TypeError("images must be a list, got a single image: pass [image]")
    if isinstance(images, Tensor) or not all(hasattr(image, "resize") for image in images):
        raise TypeError(
            "images must be a list of Pillow images, as from load_image; for tensors, use"
            " TGradAttribution"
        )
    if not images:
        raise ValueError("images is empty: pass at least one image")
    index = None if target is None else resolve_target(target, classifier.class_names)
    inputs = torch.stack([classifier.preprocess(image) for image in images])
    inputs = inputs.to(device_of(classifier.model))
    logits = classifier_logits(classifier, inputs)
    targets = (
        logits.argmax(dim=1) if index is None else logits.new_full((len(images),), index).long()
    )

    rivals = rivals_of(classifier, inputs, logits, targets, rival) if rival is not False else None
    decomposition = TGradAttribution(classifier.model).decompose(inputs, target=targets)
    maps = decomposition.map(aggregation=aggregation).squeeze(1).cpu()
    scores = _Scores(decomposition)
    probabilities = logits.softmax(dim=1).cpu()
    return [
        _explanation_of(
            sample,
            classifier,
            image,
            maps[sample],
            probabilities[sample],
            int(targets[sample]),
            scores,
            decomposition.sample(sample).to("cpu") if keep_terms or rivals else None,
            aggregation,
            rivals[sample] if rivals else None,
        )
        for sample, image in enumerate(images)
    ]


class _Scores:
    """The scores of a decomposition on the CPU.

    Attributes:
        names: The names of the terms; the first is the input.
        signed: (terms, N), the contributions to the logit.
        shares: (terms, N), the shares of the map.
        logits: (N,).
        residuals: (N,).
    """

    def __init__(self, decomposition: Decomposition) -> None:
        self.names = [term.name for term in decomposition.terms]
        signed = torch.stack([term.score for term in decomposition.terms])
        # Double precision, so that the sum over hundreds of terms is not one more rounding error.
        self.signed = signed.detach().cpu().double()
        positive = self.signed.relu()
        total = positive.sum(dim=0)
        self.shares = positive / torch.where(total > 0, total, 1.0)
        self.logits = decomposition.output.detach().cpu()
        self.residuals = decomposition.delta.detach().cpu()

    def largest(self, sample: int) -> tuple[TermScore, ...]:
        order = self.signed[:, sample].abs().argsort(descending=True)[:_LARGEST_TERMS]
        return tuple(
            TermScore(
                self.names[term], float(self.signed[term, sample]), float(self.shares[term, sample])
            )
            for term in order.tolist()
        )


def _explanation_of(
    sample: int,
    classifier: Classifier,
    image: Image,
    attribution: Tensor,
    probabilities: Tensor,
    target: int,
    scores: _Scores,
    decomposition: Decomposition | None,
    aggregation: Aggregation,
    rival: Rival | None,
) -> Explanation:
    def prediction(index: int) -> Prediction:
        return Prediction(index, classifier.class_names[index], float(probabilities[index]))

    steps = classifier.preprocess
    seen = shown = None
    if isinstance(steps, Preprocessing):
        seen, shown = steps.seen(*image.size), steps.shown(*image.size)
    best = probabilities.topk(min(_PREDICTIONS, len(probabilities))).indices.tolist()
    return Explanation(
        image=classifier.crop(image),
        predictions=tuple(prediction(index) for index in best),
        target=prediction(target),
        logit=float(scores.logits[sample]),
        attribution=attribution,
        input_score=float(scores.signed[0, sample]),
        bias_score=float(scores.signed[1:, sample].sum()),
        input_share=float(scores.shares[0, sample]),
        bias_share=float(scores.shares[1:, sample].sum()),
        largest_terms=scores.largest(sample),
        residual=float(scores.residuals[sample]),
        decomposition=decomposition,
        original=image,
        seen=seen,
        shown=shown,
        aggregation=aggregation,
        model=classifier.name,
        rival=rival,
    )
