"""What is known about one answer of a classifier after explaining it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum_tgrad.decomposition.combine import Aggregation
    from captum_tgrad.decomposition.terms import Decomposition
    from captum_tgrad.zoo.classifier import Box

_SURE = 1.5
# Of the photo that a map is drawn over, for each pixel of the map; and at most a side.
_PIXELS_OF_PHOTO = 2
_LONGEST = 4096


@dataclass(frozen=True)
class Prediction:
    """A class and how probable the network holds it.

    Attributes:
        index: Of the class.
        name: Of the class.
        probability: Its softmax, in [0, 1].
    """

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class TermScore:
    """What one term adds to the logit, and its part of the positive scores.

    Attributes:
        name: Of the term: the module, and its operation where there are several.
        score: What it adds to the logit, signed.
        share: Its part of the positive scores, in [0, 1]; 0 where the score is not positive. By
            ``"paper"``, it is its part of the map, too.
    """

    name: str
    score: float
    share: float


@dataclass(frozen=True)
class Rival:
    """Another class, and why the network holds the explained one more probable, or less.

    Attributes:
        prediction: The class.
        decomposition: All terms of its logit: one sample, on the CPU.
        difference: All terms of the logit of the explained class minus that of this one.
    """

    prediction: Prediction
    decomposition: Decomposition
    difference: Decomposition


@dataclass(frozen=True)
class Explanation:
    """Why a classifier gives an image the score it gives to one class.

    The logit is the sum ``input_score + bias_score + residual``. The map is the positive part of
    that sum, spread over the image, and its shares are those of the terms with a positive score.

    Attributes:
        image: What the network saw: RGB, H x W pixels.
        predictions: The most probable classes, the best first.
        target: The class that is explained.
        logit: The network's raw output for it.
        attribution: The T-Grad map, (H, W) float, on the CPU, nowhere negative.
        input_score: What the input term adds to the logit, signed.
        bias_score: What all bias terms add to the logit, signed.
        input_share: The input term's part of the positive scores, in [0, 1]; by ``"paper"``, of the
            map, too.
        bias_share: The bias terms' part, in [0, 1]. It and ``input_share`` add up to 1,
            or are both 0 where no term has a positive score and the map is empty.
        largest_terms: Those whose scores are the furthest from 0, the furthest first.
        residual: What of the logit no term explains: rounding, unless something hid from the trace.
        decomposition: All terms with their maps, where they were asked for: one sample, on the CPU.
        original: The whole image, as it was given.
        seen: The part of it that the network saw, as left, top, right and bottom, in its pixels;
            None where that is not known.
        shown: The place of that part in ``image`` and in the map: all of them, unless there is a
            border.
        aggregation: How the terms became the map: ``"paper"`` or ``"levels"``.
        model: The name of the classifier.
        rival: The class that it was compared with, where one was asked for.
    """

    image: Image
    predictions: tuple[Prediction, ...]
    target: Prediction
    logit: float
    attribution: Tensor
    input_score: float
    bias_score: float
    input_share: float
    bias_share: float
    largest_terms: tuple[TermScore, ...]
    residual: float
    decomposition: Decomposition | None = None
    original: Image | None = None
    seen: Box | None = None
    shown: Box | None = None
    aggregation: Aggregation = "paper"
    model: str = ""
    rival: Rival | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the original image, in pixels."""
        return None if self.original is None else self.original.size

    @cached_property
    def photo(self) -> Image | None:
        """The whole image, reduced for a figure; None where the part that was seen is not known.

        The part that was seen has about twice as many pixels a side as the map.
        """
        if self.original is None or self.seen is None:
            return None
        left, top, right, bottom = self.seen
        scale = _PIXELS_OF_PHOTO * max(self.attribution.shape) / max(right - left, bottom - top)
        scale = min(scale, _LONGEST / max(self.original.size))
        width, height = (max(round(scale * size), 1) for size in self.original.size)
        return self.original.resize((width, height), reducing_gap=2.0)

    @property
    def cut_away(self) -> float:
        """The share of the image that the network did not see, in [0, 1]; 0 where unknown."""
        if self.size is None or self.seen is None:
            return 0.0
        left, top, right, bottom = self.seen
        return 1 - (right - left) * (bottom - top) / (self.size[0] * self.size[1])

    def to_html(self, name: str = "") -> str:
        """A page on which a person walks through the explanation, term by term.

        A notebook shows it when a cell ends with the explanation. Its map is the sum of the terms'
        maps, ``aggregation="paper"``, whatever the explanation's own is.

        Args:
            name: What the image is called, such as its file.

        Returns:
            One HTML file without a server or a network; see
            :func:`captum_tgrad.visualization.walkthrough_page`.

        Raises:
            ValueError: The terms were not kept.

        Example:
            >>> from captum_tgrad.explanation import explain
            >>> from captum_tgrad.zoo import load_classifier, sample_image
            >>> (found,) = explain(load_classifier(), [sample_image()], rival=True)
            >>> "Why espresso?" in found.to_html("coffee.png")
            True
        """
        from captum_tgrad.explanation.as_html import page_of

        return page_of(self, name)

    def _repr_html_(self) -> str | None:
        from captum_tgrad.explanation.as_html import frame_of

        return None if self.decomposition is None else frame_of(self.to_html())

    @property
    def seen_of_photo(self) -> Box | None:
        """The part that the network saw, in the pixels of ``photo``."""
        if self.photo is None or self.seen is None or self.size is None:
            return None
        scale = [new / old for new, old in zip(self.photo.size, self.size, strict=True)] * 2
        left, top, right, bottom = (
            round(s * side) for s, side in zip(scale, self.seen, strict=True)
        )
        return left, top, max(right, left + 1), max(bottom, top + 1)

    @property
    def map_of_seen(self) -> Tensor:
        """The map without the border that the image got, if it got one."""
        if self.shown is None:
            return self.attribution
        left, top, right, bottom = self.shown
        return self.attribution[top:bottom, left:right]

    @property
    def unsure(self) -> bool:
        """Whether even the best class has less than 1.5 times an equal share.

        An equal share among all classes, or among five where there are more: below 30%.
        """
        return self.predictions[0].probability < _SURE / len(self.predictions)
