"""A way to explain images, by name, and what it is when made for one model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad.zoo.classifier import Classifier

Black = Tensor | float
"""What a black image is to the network: ``(C, H, W)`` or 0-dimensional."""

Compute = Callable[..., Tensor | tuple[Tensor, Tensor | None]]
"""From inputs and targets to attributions, or to attributions and residual.

Methods that draw random numbers also take ``seeds``, one for each image; methods that evaluate many
examples for one image also take ``examples_at_once``. Others leave these arguments out.
"""

EXAMPLES_AT_ONCE = 32
"""So many examples a method that evaluates many for one image runs at once, as in the paper."""


class Explainer:
    """A method made for one model.

    Args:
        compute: From the inputs ``(N, C, H, W)`` and the targets ``(N,)``, and if it has arguments
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
            inputs: Images as the model takes them, ``(N, C, H, W)``.
            target: The class to explain of each, ``(N,)``.
            seeds: A number for each image that all randomness in explaining it follows from, so
                that it does not matter which images are beside it. None: 0 for each.

        Returns:
            Of the shape of the inputs, or with one channel, ``(N, 1, h, w)``, perhaps coarser.
        """
        return self.with_residual(inputs, target, seeds)[0]

    def with_residual(
        self,
        inputs: Tensor,
        target: Tensor | Sequence[int],
        seeds: Sequence[int] | None = None,
        examples_at_once: int = EXAMPLES_AT_ONCE,
    ) -> tuple[Tensor, Tensor | None]:
        """The attributions, and of T-Grad the residual, ``(N,)``; None of other methods.

        Args:
            inputs: As for a call.
            target: As for a call.
            seeds: As for a call.
            examples_at_once: Where a method evaluates many examples for one image, so many at a
                time. It does not change the attributions, except the noise of SmoothGrad on a GPU.

        Raises:
            ValueError: There is not one target and one seed for each image.
        """
        target = torch.as_tensor(target, device=inputs.device)
        seeds = [0] * len(inputs) if seeds is None else list(seeds)
        for name, found in (("target", target.numel()), ("seeds", len(seeds))):
            if found != len(inputs):
                raise ValueError(
                    f"{name} must have one entry for each image, got {found} for {len(inputs)}."
                )
        # A model may overwrite what it is given.
        inputs = inputs.detach().clone()
        further = {"seeds": seeds, "examples_at_once": examples_at_once}
        computed = self._compute(
            inputs, target, **{name: further[name] for name in further if name in self._takes}
        )
        attributions, residual = computed if isinstance(computed, tuple) else (computed, None)
        return attributions.detach(), None if residual is None else residual.detach()


@dataclass(frozen=True)
class Method:
    """A method by name.

    Attributes:
        name: As it is called in records and on the command line.
        title: As it is called in tables and figures.
        cost: What one image costs, in passes through the network.
        builder: From a model and its black image to what an ``Explainer`` computes.
        settings: What else the method was told, of plain strings, numbers, lists and dicts; it
            becomes part of the protocol.
        source: Where it was published.
        extra: The extra of this package that it needs; empty if none.
    """

    name: str
    title: str
    cost: str
    builder: Callable[[nn.Module, Black], Compute] = field(repr=False, compare=False)
    settings: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    extra: str = ""

    def build(self, model: nn.Module | Classifier, black: Black | None = None) -> Explainer:
        """Makes the method for one model.

        Args:
            model: In evaluation mode, returning logits ``(N, classes)``; or a classifier.
            black: What a black image is to the model, for methods that have it as a baseline:
                ``(C, H, W)`` or a number. None: known of a classifier; 0 of a bare model, which is
                black only if pixels are not normalized.

        Raises:
            TypeError: The method cannot be made for this model.
            ValueError: Likewise, such as where it names a layer that the model does not have.
            ModuleNotFoundError: An extra of this package is missing.
        """
        if isinstance(model, Classifier):
            black = black_image(model) if black is None else black
            model = model.model
        return Explainer(self.builder(model, 0.0 if black is None else black))


def black_image(classifier: Classifier) -> Tensor:
    """What a black image is to a classifier, ``(C, H, W)``: not 0, as inputs are normalized."""
    from PIL import Image

    return classifier.preprocess(Image.new("RGB", (64, 64)))


def image_seed(image: str, seed: int = 0) -> int:
    """A number that follows from the name of an image, whatever is beside it or runs elsewhere.

    Args:
        image: The name of the image.
        seed: Another gives other numbers.

    Returns:
        A whole number from 0 to 2**63 - 1.

    Example:
        >>> image_seed("cat.jpg") == image_seed("cat.jpg") != image_seed("cat.jpg", seed=1)
        True
    """
    digest = hashlib.sha256(f"{seed}/{image}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
