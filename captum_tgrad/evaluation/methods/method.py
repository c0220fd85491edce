"""Attribution methods by name, and methods built for a model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from captum_tgrad._support.arguments import got
from captum_tgrad.zoo.classifier import Classifier

Black = Tensor | float
"""The network's input for a black image: ``(C, H, W)`` or 0-dimensional."""

Compute = Callable[..., Tensor | tuple[Tensor, Tensor | None]]
"""From inputs and targets to attributions, or to attributions and residual.

Methods that draw random numbers also accept ``seeds``, one for each image; methods with many
forward passes per image also accept ``examples_at_once``.
"""

Builder = Callable[[nn.Module, Black], Compute]
"""From a model and its input for a black image to the function of an ``Explainer``."""

EXAMPLES_AT_ONCE = 32
"""Examples per batch for methods with many forward passes, as in the paper."""


class Explainer:
    """A method built for one model.

    Args:
        compute: From the inputs ``(N, C, H, W)`` and the targets ``(N,)``, and, if it has arguments
            of these names, ``seeds`` and ``examples_at_once``, to the attributions, or to a pair of
            the attributions and the residual ``(N,)``.
    """

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._takes = inspect.signature(compute).parameters.keys()

    def __call__(
        self, inputs: Tensor, target: Tensor | Sequence[int], seeds: Sequence[int] | None = None
    ) -> Tensor:
        """The attributions of each image.

        Args:
            inputs: Model inputs, ``(N, C, H, W)``.
            target: The class to explain for each image, ``(N,)``.
            seeds: The random seed of each image, so that its attributions do not depend on the
                other images of the batch. None: 0 for each.

        Returns:
            The attributions, shaped like the inputs, or ``(N, 1, h, w)``, possibly coarser.
        """
        return self.with_residual(inputs, target, seeds)[0]

    def with_residual(
        self,
        inputs: Tensor,
        target: Tensor | Sequence[int],
        seeds: Sequence[int] | None = None,
        examples_at_once: int = EXAMPLES_AT_ONCE,
    ) -> tuple[Tensor, Tensor | None]:
        """The attributions, and the residual for T-Grad, ``(N,)``, or None for other methods.

        The arguments are those of a call. ``examples_at_once`` is the number of examples per batch
        for methods with many forward passes. It does not change the attributions, except the noise
        of SmoothGrad on a GPU.

        Raises:
            TypeError: The method returns no tensor.
            ValueError: The number of targets or seeds is not that of the images.
        """
        target = torch.as_tensor(target, device=inputs.device)
        seeds = [0] * len(inputs) if seeds is None else list(seeds)
        for name, found in (("target", target.numel()), ("seeds", len(seeds))):
            if found != len(inputs):
                raise ValueError(
                    f"{name} must have one entry for each image, got {found} for {len(inputs)}."
                )
        # Models may overwrite their inputs in place.
        inputs = inputs.detach().clone()
        further = {"seeds": seeds, "examples_at_once": examples_at_once}
        computed = self._compute(
            inputs, target, **{name: further[name] for name in further if name in self._takes}
        )
        attributions, residual = computed if isinstance(computed, tuple) else (computed, None)
        if not isinstance(attributions, Tensor):
            raise TypeError(f"it must return attributions as a tensor, got {got(attributions)}.")
        return attributions.detach(), None if residual is None else residual.detach()


@dataclass(frozen=True)
class Method:
    """A method by name.

    Attributes:
        name: Its name in records and on the command line.
        title: Its title in tables and figures.
        cost: The cost of one image in passes through the network.
        builder: From a model and its black image to the function of an ``Explainer``.
        settings: Further settings for the protocol, as plain strings, numbers, lists and dicts.
        source: Its publication.
        extra: The extra of this package that it needs; empty if none.

    Raises:
        TypeError: ``name`` or ``title`` is not a string, ``builder`` is not callable, or
            ``settings`` is not a dict.
    """

    name: str
    title: str
    cost: str
    builder: Builder = field(repr=False, compare=False)
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    extra: str = ""

    def __post_init__(self) -> None:
        # JSON has strings as keys only: 1 and "1" would be one method in summaries.
        for attribute in ("name", "title"):
            value = getattr(self, attribute)
            if not isinstance(value, str):
                wanted = f"a string, such as {str(value)!r}"
                raise TypeError(f"{attribute} must be {wanted}, got {type(value).__name__}.")
        if not callable(self.builder):
            raise TypeError(
                "builder must be a function from a model and its input for a black image to a"
                f" function of inputs and targets, got {type(self.builder).__name__}."
            )
        if not isinstance(self.settings, dict):
            raise TypeError(f"settings must be a dict, got {type(self.settings).__name__}.")

    def build(self, model: nn.Module | Classifier, black: Black | None = None) -> Explainer:
        """Builds the method for one model.

        Args:
            model: In evaluation mode, returning logits ``(N, classes)``; or a classifier.
            black: The model's input for a black image, for methods that use it as a baseline:
                ``(C, H, W)`` or a number. None: computed for a classifier; 0 for a module, which is
                black only if pixels are not normalized.

        Raises:
            TypeError: The method does not support this model.
            ValueError: The method does not support this model, for example for lack of a layer.
            ModuleNotFoundError: An extra of this package is missing.
        """
        black = black_image(model) if black is None else black
        module = model.model if isinstance(model, Classifier) else model
        return Explainer(self.builder(module, black))


def black_image(model: nn.Module | Classifier) -> Black:
    """The input for a black image: of a classifier, which normalizes it, ``(C, H, W)``; else 0."""
    return model.preprocess(Image.new("RGB", (64, 64))) if isinstance(model, Classifier) else 0.0


def image_seed(image: str, seed: int = 0) -> int:
    """A seed for an image, which depends on its name and ``seed`` only: from 0 to 2**63 - 1.

    Example:
        >>> image_seed("cat.jpg") == image_seed("cat.jpg") != image_seed("cat.jpg", seed=1)
        True
    """
    digest = hashlib.sha256(f"{seed}/{image}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
