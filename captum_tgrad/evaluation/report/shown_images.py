"""The images of a report with the recomputed maps of all methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from captum_tgrad.evaluation.methods.method import image_seed
from captum_tgrad.evaluation.report.chosen_images import ChosenImage, chosen_images
from captum_tgrad.evaluation.running.speed import in_fast_format
from captum_tgrad.evaluation.running.timed_method import ExplainedImage, TimedMethod
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage.records import Record
from captum_tgrad.visualization.method_figures import methods_figure
from captum_tgrad.zoo.classifier import Classifier
from captum_tgrad.zoo.normalization import normalization

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DRAWN_CHANNELS = (1, 3)


class ShownImage(NamedTuple):
    """An image of a report: the heading, the figure and its caption."""

    heading: str
    figure: Figure
    caption: str


@dataclass(frozen=True)
class ImageShow:
    """Draws the best, the worst and the most disputed image.

    An evaluation keeps no maps: thirteen maps of each of 50,000 images are too many. Recomputing
    those of three images is cheap, and also works in a resumed or distributed run. With the seed of
    the evaluation, random numbers are the same. The class names and the normalization are those of
    the classifier, if there is one.
    """

    samples: Samples
    methods: Mapping[str, TimedMethod]
    seed: int
    device: torch.device
    classifier: Classifier | None

    def draw(self, records: Sequence[Record], titles: Mapping[str, str]) -> Iterator[ShownImage]:
        """Computes the maps and draws them, best first.

        Images without 1 or 3 channels and methods that fail are left out.
        """
        for chosen in chosen_images(records, {*self.samples.names}):
            of_image = {each["method"]: each for each in records if each["image"] == chosen.image}
            shown = self._draw(chosen, of_image, titles)
            if shown is not None:
                yield shown

    def _draw(
        self, chosen: ChosenImage, records: Mapping[str, Record], titles: Mapping[str, str]
    ) -> ShownImage | None:
        try:
            image, _ = self.samples[self.samples.names.index(chosen.image)]
        except ValueError:
            return None
        if len(image) not in _DRAWN_CHANNELS:
            return None
        target = next(iter(records.values()))["target"]
        inputs = in_fast_format(image[None].to(self.device))
        maps = self._maps(inputs, target, records, titles)
        if not maps:
            return None
        names = () if self.classifier is None else self.classifier.class_names
        what = f"{names[target]} ({target})" if target < len(names) else f"class {target}"
        mean, std = (None, None) if self.classifier is None else normalization(self.classifier)
        figure = methods_figure(image, maps, title=what, mean=mean, std=std)
        return ShownImage(f"{chosen.kind} image: {chosen.image}", figure, chosen.reason)

    def _maps(
        self,
        inputs: Tensor,
        target: int,
        records: Mapping[str, Record],
        titles: Mapping[str, str],
    ) -> dict[str, Tensor]:
        """The maps by title and score, best first."""
        ordered = sorted(records, key=lambda name: -(records[name]["difference"] or 0.0))
        maps = {}
        for name in ordered:
            if name not in self.methods:
                continue  # Of an earlier run of the folder.
            seeds = [image_seed(records[name]["image"], self.seed)]
            targets = torch.tensor([target], device=self.device)
            (found,) = self.methods[name](inputs, targets, seeds)
            if isinstance(found, ExplainedImage):
                score = records[name]["difference"]
                # 0.0 is added to what is rounded: there is no -0.00.
                maps[f"{titles.get(name, name)}: {round(score, 2) + 0.0:.2f}"] = found.importance[
                    None
                ].cpu()
        return maps
