"""Explains a classifier's predictions for a batch of images."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from captum_tgrad._support.probabilities import probabilities_of
from captum_tgrad.attribution.t_grad import TGradAttribution
from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Aggregation, check_options
from captum_tgrad.explanation.explanation import Explanation, Prediction, Rival, TermScore
from captum_tgrad.zoo.class_names import resolve_target
from captum_tgrad.zoo.classifier import Classifier, check_classifier, classified
from captum_tgrad.zoo.images import as_rgb
from captum_tgrad.zoo.preprocessing import Preprocessing

_PREDICTIONS = 5
_LARGEST_TERMS = 10


def explain(
    classifier: Classifier,
    images: Iterable[Image],
    target: int | str | None = None,
    *,
    keep_terms: bool = False,
    aggregation: Aggregation = "paper",
    rival: int | str | bool = False,
) -> list[Explanation]:
    """Explains the predictions for a batch of images, on the network's device.

    Args:
        classifier: A classifier, as returned by ``captum_tgrad.zoo.load_classifier``.
        images: Images of any size, at least one; converted to RGB as by ``load_image``.
        target: The index or name of the class to explain, the same for all images. None: the
            predicted class of each image.
        keep_terms: Whether to keep the maps of all terms, for ``layers_figure`` and
            ``Explanation.to_html``.
        aggregation: As for ``TGradAttribution.attribute``.
        rival: The index or name of a class to compare with. True: the most probable other class,
            which is also used if the rival is the target. Keeps the terms of its logit and of the
            difference, which needs two more decompositions.

    Returns:
        One explanation for each image.

    Raises:
        TypeError: ``classifier`` is not a ``Classifier``, ``images`` is not a list of Pillow
            images, or ``target`` or ``rival`` is neither an index nor a name.
        ValueError: ``images`` is empty, their preprocessed shapes differ, the class or aggregation
            is unknown, or the network does not return one logit for each class name.
    """
    check_classifier(classifier)
    check_options("positive", aggregation)
    if isinstance(images, Image):
        raise TypeError("images must be a list, got a single image: pass [image]")
    images = list(images)  # of an iterator, too
    if not all(isinstance(image, Image) for image in images):
        raise TypeError(
            "images must be a list of Pillow images, as from load_image; for tensors, use"
            " TGradAttribution"
        )
    if not images:
        raise ValueError("images is empty: pass at least one image")
    images = [as_rgb(image) for image in images]
    inputs, logits, targets = classified(classifier, images, target)
    rivals = _rivals(classifier, inputs, logits, targets, rival) if rival is not False else None
    decomposition = TGradAttribution(classifier.model).decompose(inputs, target=targets)
    maps = decomposition.map(aggregation=aggregation).squeeze(1).cpu()
    parts = _parts_of_logits(decomposition)
    probabilities = probabilities_of(logits).cpu()
    steps = classifier.preprocess if isinstance(classifier.preprocess, Preprocessing) else None
    found = []
    for sample, image in enumerate(images):
        best = probabilities[sample].topk(min(_PREDICTIONS, logits.shape[1])).indices
        explained, *others = (
            _prediction(classifier, probabilities[sample], int(index))
            for index in (targets[sample], *best)
        )
        found.append(
            Explanation(
                image=classifier.crop(image),
                predictions=tuple(others),
                target=explained,
                attribution=maps[sample],
                **parts[sample],
                decomposition=(
                    decomposition.sample(sample).to("cpu") if keep_terms or rivals else None
                ),
                original=image,
                seen=steps.seen(*image.size) if steps else None,
                shown=steps.shown(*image.size) if steps else None,
                aggregation=aggregation,
                model=classifier.name,
                rival=rivals[sample] if rivals else None,
            )
        )
    return found


def _prediction(classifier: Classifier, probabilities: Tensor, index: int) -> Prediction:
    return Prediction(index, classifier.class_names[index], float(probabilities[index]))


def _parts_of_logits(decomposition: Decomposition) -> list[dict[str, Any]]:
    """The parts of the logit of each sample, as fields of its explanation."""
    signed = torch.stack([term.score for term in decomposition.terms])
    # Double precision, so that the sum over hundreds of terms is not one more rounding error.
    signed = signed.detach().cpu().double()
    positive = signed.relu()
    total = positive.sum(dim=0)
    shares = positive / torch.where(total > 0, total, 1.0)
    return [
        {
            "logit": float(decomposition.output[sample]),
            "input_score": float(own[0]),
            "bias_score": float(own[1:].sum()),
            "input_share": float(share[0]),
            "bias_share": float(share[1:].sum()),
            "largest_terms": tuple(
                TermScore(decomposition.terms[term].name, float(own[term]), float(share[term]))
                for term in own.abs().argsort(descending=True)[:_LARGEST_TERMS].tolist()
            ),
            "residual": float(decomposition.delta[sample]),
        }
        for sample, (own, share) in enumerate(zip(signed.T, shares.T, strict=True))
    ]


def _rivals(
    classifier: Classifier, inputs: Tensor, logits: Tensor, targets: Tensor, rival: int | str | bool
) -> list[Rival]:
    """Decomposes the logit of each sample's rival, and that of its target minus the rival's.

    ``rival`` is as for ``explain``; ``inputs`` are ``(N, 3, H, W)``, ``logits`` ``(N, classes)``
    and ``targets`` ``(N,)``.
    """
    if not isinstance(rival, (int, Integral, str)):
        raise TypeError(
            "rival must be the index or the name of a class, True or False, not"
            f" {type(rival).__name__}"
        )
    classes = logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)
    if rival is not True:
        index = resolve_target(rival, classifier.class_names)
        classes = torch.where(targets == index, classes, index)

    def difference(images: Tensor) -> Tensor:
        found: Tensor = classifier.model(images)
        pair = torch.stack([targets, classes], dim=1)
        one, other = found.gather(1, pair).unbind(1)
        return one - other

    of_classes = TGradAttribution(classifier.model).decompose(inputs, target=classes)
    of_differences = TGradAttribution(difference).decompose(inputs)
    probabilities = probabilities_of(logits).cpu()
    return [
        Rival(
            _prediction(classifier, probabilities[sample], index),
            of_classes.sample(sample).to("cpu"),
            of_differences.sample(sample).to("cpu"),
        )
        for sample, index in enumerate(classes.tolist())
    ]
