"""Compares the explained class with a rival class."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.explanation.explanation import Prediction, Rival
from captum_tgrad.zoo.class_names import resolve_target
from captum_tgrad.zoo.classifier import Classifier


def rivals_of(
    classifier: Classifier, inputs: Tensor, logits: Tensor, targets: Tensor, rival: int | str | bool
) -> list[Rival]:
    """Decomposes the logit of each sample's rival, and that of its target minus the rival's.

    ``rival`` is as for ``explain``; ``inputs`` are ``(N, 3, H, W)``, ``logits`` ``(N, classes)``
    and ``targets`` ``(N,)``.
    """
    from captum_tgrad import TGradAttribution

    if not isinstance(rival, (int, str)):
        raise TypeError(
            "rival must be the index or the name of a class, True or False, not"
            f" {type(rival).__name__}"
        )
    if logits.shape[1] < 2:
        raise ValueError(f"rival must be False: {classifier.name} has only one class")
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
    probabilities = logits.softmax(dim=1).cpu()
    return [
        Rival(
            Prediction(index, classifier.class_names[index], float(probabilities[sample, index])),
            of_classes.sample(sample).to("cpu"),
            of_differences.sample(sample).to("cpu"),
        )
        for sample, index in enumerate(classes.tolist())
    ]
