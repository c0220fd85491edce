"""An image classifier with its preprocessing and class names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from captum_tgrad._support.accelerator import device_of
from captum_tgrad._support.arguments import got
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.output_checks import logits_expression
from captum_tgrad.zoo.class_names import check_not_one_name, resolve_target

Box = tuple[int, int, int, int]
"""Left, top, right and bottom, in pixels."""

_ONE_OUTPUT = (
    "For a network with one logit z, return torch.cat([-z, z], 1) / 2, whose softmax"
    " is the sigmoid of z. For a regression, use TGradAttribution and captum_tgrad.metrics."
)


@dataclass(frozen=True, repr=False)
class Classifier:
    """An image classifier: a network in evaluation mode, its preprocessing and class names.

    ``load_classifier`` returns one. Construct one for a network of your own.

    Attributes:
        name: Its name in ``load_classifier``, such as ``"torchvision:resnet50"``.
        model: From (N, 3, H, W) to logits (N, classes); in evaluation mode.
        class_names: One name for each column of the logits, two or more.
        preprocess: From an RGB image to the network input, (3, H, W) float32.
        crop: From an RGB image to the part that the network sees, H x W pixels: ``preprocess``
            without normalization, for figures.

    Raises:
        TypeError: ``class_names`` is one string.
        ValueError: There is only one class name.
    """

    name: str
    model: nn.Module
    class_names: tuple[str, ...]
    preprocess: Callable[[Image], Tensor]
    crop: Callable[[Image], Image]

    def __post_init__(self) -> None:
        check_not_one_name(self.class_names)
        if len(self.class_names) < 2:
            raise ValueError(f"class_names must have two or more names. {_ONE_OUTPUT}")

    def __repr__(self) -> str:
        kind, count = type(self.model).__name__, len(self.class_names)
        return f"Classifier({self.name!r}, {kind}, {count} classes)"


def check_classifier(classifier: Any) -> None:
    """Raises TypeError unless given a ``Classifier``."""
    if not isinstance(classifier, Classifier):
        raise TypeError(
            "classifier must be a Classifier, as from captum_tgrad.zoo.load_classifier, got"
            f" {type(classifier).__name__}. For a model of your own, construct a Classifier, or use"
            " TGradAttribution."
        )


def classified(
    classifier: Classifier, images: Sequence[Image], target: int | str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The network inputs and the logits of images, and the class to explain of each, ``(N,)``.

    ``target`` is the index or name of one class for all images; None for the predicted classes.

    Raises:
        TypeError: ``target`` is neither an index nor a name, or an image becomes no tensor.
        ValueError: The class is unknown, the network does not return one logit for each class name,
            its dtype is not that of the images, or these are not (C, H, W), all of one shape.
    """
    index = None if target is None else resolve_target(target, classifier.class_names)
    model = classifier.model
    preprocessed = [classifier.preprocess(image) for image in images]
    _check_preprocessed(preprocessed)
    inputs = torch.stack(preprocessed).to(device_of(model))
    # Models may overwrite their inputs in place.
    with (
        torch.no_grad(),
        explaining_errors(model, (inputs,), "preprocessed images", "classifier.model"),
    ):
        logits = model(inputs.clone())
    check_logits(logits, len(inputs), len(classifier.class_names), classifier.name)
    predicted = logits.argmax(dim=1)
    return inputs, logits, predicted if index is None else torch.full_like(predicted, index)


def _check_preprocessed(images: Sequence[Any]) -> None:
    """Raises TypeError or ValueError unless they are tensors (C, H, W) of one shape."""
    for image in images:
        if not isinstance(image, Tensor):
            raise TypeError(f"preprocess must return a tensor (C, H, W), got {got(image)}.")
        if image.dim() != 3:
            raise ValueError(
                f"preprocess must return an image (C, H, W), got shape {tuple(image.shape)}:"
                " leave out the batch dimension, for example with [0]."
            )
        if image.shape != images[0].shape:
            raise ValueError(
                f"preprocess must return images of one shape, got {tuple(images[0].shape)} and"
                f" {tuple(image.shape)}: crop or resize them to one height and width, or explain"
                " one image at a time (--batch-size 1)."
            )


def check_logits(output: Any, count: int, classes: int | None = None, name: str = "model") -> None:
    """Raises ValueError unless the model ``name`` returned logits, ``(count, classes)``.

    ``count`` is the number of images, and ``classes`` that of the class names, if there are any.
    """
    wanted = f"({count}, {'classes' if classes is None else classes})"
    if not isinstance(output, Tensor):
        raise ValueError(
            f"{name} must return logits of shape {wanted}, got {type(output).__name__}: wrap it in"
            f" a torch.nn.Module whose forward returns {logits_expression(output)}."
        )
    if output.dim() != 2 or len(output) != count:
        raise ValueError(
            f"{name} must return logits of shape {wanted} for {count} images, got"
            f" {tuple(output.shape)}: wrap it in a torch.nn.Module that does."
        )
    if classes is not None and output.shape[1] != classes:
        advice = _ONE_OUTPUT if output.shape[1] == 1 else "Pass one name for each column."
        raise ValueError(
            f"{name} returned logits of shape {tuple(output.shape)}, but there are {classes} class"
            f" names. {advice}"
        )
