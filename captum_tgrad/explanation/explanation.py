"""The explanation of one prediction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from PIL.Image import Image
from torch import Tensor

from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Aggregation
from captum_tgrad.zoo.classifier import Box

# The prediction is unsure below this multiple of a uniform probability.
_SURE = 1.5
# The resolution of the photo under a map, relative to the map's; and its maximum side in pixels.
_PIXELS_OF_PHOTO = 2
_LONGEST = 4096


@dataclass(frozen=True)
class Prediction:
    """A class and its probability.

    Attributes:
        index: The index of the class.
        name: The name of the class.
        probability: Its softmax probability, in [0, 1].
    """

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class TermScore:
    """The score of a term and its share of all positive scores.

    Attributes:
        name: The name of the term: its module, and its operation if the module has several.
        score: Its contribution to the logit, signed.
        share: Its share of the sum of positive scores, in [0, 1]; 0 if the score is not positive.
            With ``"paper"``, also its share of the map.
    """

    name: str
    score: float
    share: float


@dataclass(frozen=True, eq=False)
class Rival:
    """A comparison of the explained class with another one.

    Attributes:
        prediction: The other class.
        decomposition: All terms of its logit: one sample, on the CPU.
        difference: All terms of the logit of the explained class minus the logit of this class.
    """

    prediction: Prediction
    decomposition: Decomposition
    difference: Decomposition


@dataclass(frozen=True, eq=False)
class Explanation:
    """The explanation of a classifier's logit for one class of one image.

    The logit is the sum ``input_score + bias_score + residual``. The map contains the terms with a
    positive score.

    Attributes:
        image: The network's view of the image: RGB, H x W pixels.
        predictions: The most probable classes, the best first.
        target: The explained class.
        logit: Its logit.
        attribution: The T-Grad map, (H, W) float, on the CPU, non-negative.
        input_score: The score of the input term, signed.
        bias_score: The sum of the scores of all bias terms, signed.
        input_share: The input term's share of the positive scores, in [0, 1]; with ``"paper"``,
            also of the map.
        bias_share: The bias terms' share, in [0, 1]. ``input_share`` and ``bias_share`` add up to
            1. If no term has a positive score, both are 0 and the map is empty.
        largest_terms: The terms with the largest absolute scores, the largest first.
        residual: The convergence delta. It is rounding error unless a warning was issued.
        decomposition: All terms with their maps, if requested: one sample, on the CPU.
        original: The whole image, in RGB.
        seen: The part of ``original`` that the network saw: left, top, right and bottom in pixels;
            None if unknown.
        shown: The position of that part in ``image`` and in the map: the whole image, unless it has
            a border.
        aggregation: How the terms are combined: ``"paper"`` or ``"levels"``.
        model: The name of the classifier.
        rival: The comparison with another class, if requested.
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

    def __repr__(self) -> str:
        return (
            f"Explanation of {self.target.name} ({self.target.index}): logit {self.logit:.4g};"
            " print(format_report(explanation))"
        )

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the original image, in pixels."""
        return None if self.original is None else self.original.size

    @cached_property
    def photo(self) -> Image | None:
        """The whole image, downsampled for a figure; None if ``seen`` is unknown.

        The seen part has about twice as many pixels a side as the map.
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
        """The share of the image that the network did not see, in [0, 1]; 0 if unknown."""
        if self.size is None or self.seen is None:
            return 0.0
        return cut_away(self.size, self.seen)

    def to_html(self, name: str = "") -> str:
        """An HTML page to walk through the explanation term by term.

        Notebooks show this page for an explanation at the end of a cell. The map on the page always
        uses ``aggregation="paper"``.

        Args:
            name: The name of the image, such as its file.

        Returns:
            One self-contained HTML file; see
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
        """The map without the border of a padded image."""
        if self.shown is None:
            return self.attribution
        left, top, right, bottom = self.shown
        return self.attribution[top:bottom, left:right]

    @property
    def unsure(self) -> bool:
        """Whether even the best class has less than 1.5 times a uniform probability.

        Uniform over all classes, or over five if there are more: below 30%.
        """
        return self.predictions[0].probability < _SURE / len(self.predictions)


def cut_away(size: tuple[int, int], seen: Box) -> float:
    """The share of an image of this width and height that is not in the box, in [0, 1]."""
    left, top, right, bottom = seen
    return 1 - (right - left) * (bottom - top) / (size[0] * size[1])
