"""The work of one process: explains, scores and records batches."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support.accelerator import device_of
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.out_of_memory import Halving
from captum_tgrad._support.progress import Bar
from captum_tgrad._support.warn import warn_user
from captum_tgrad.evaluation.methods.method import image_seed
from captum_tgrad.evaluation.regions import region_digest, region_of
from captum_tgrad.evaluation.running.scoring import Scoring, localization, numbers_of
from captum_tgrad.evaluation.running.settings import Settings, channels_last
from captum_tgrad.evaluation.running.timed_method import ExplainedImage, TimedMethod, reason_of
from captum_tgrad.evaluation.samples import Samples
from captum_tgrad.evaluation.storage.folder import REJECTED
from captum_tgrad.evaluation.storage.json_lines import JsonLines
from captum_tgrad.evaluation.storage.records import record_of
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS
from captum_tgrad.zoo.classifier import check_logits

STEPS = 2
"""Progress steps for each image and method: its map and its metrics."""


@dataclass
class _Loaded:
    name: str
    tensor: Tensor
    label: int | None
    digest: str | None
    region: Tensor | None
    lacking: Sequence[str]  # the methods whose records it lacks


@dataclass
class Run:
    """Explains, scores and records the images of one process, with reasons for skipped ones."""

    model: nn.Module
    methods: Mapping[str, TimedMethod]
    samples: Samples
    settings: Settings
    records: JsonLines
    skipped: JsonLines
    bar: Bar
    regions: Mapping[str, Any] | None = None
    refused: RuntimeError | None = None  # for the first image that the model rejected

    def __post_init__(self) -> None:
        self._scoring = Scoring(self.model, self.settings)
        self._forward = Halving(self.settings.batch_size)
        self._done = self._count = self._outside = 0  # images
        self._deadline = math.inf

    def __call__(
        self, work: Sequence[tuple[int, Sequence[str]]], budget: float | None = None
    ) -> None:
        """Explains and scores images, given by index with the methods whose records they lack.

        After ``budget`` seconds, no further image is loaded or scored, except for one image of a
        batch that has been explained.
        """
        self._deadline = time.monotonic() + (math.inf if budget is None else budget)
        self._count = len(work)
        for batch in self._batches(work):
            self._batch(batch)
        for name, method in self.methods.items():
            if method.gave_up is not None:
                self._skip(None, name, method.gave_up)
        self._scoring.warn()
        if self._outside:
            warn_user(
                f"The regions of {self._outside} of {self._done} images have no pixel in the"
                " model's input, so their localization metrics are undefined. If images are"
                ' cropped, resize="pad" (--resize pad) keeps all of them.'
            )
        for method in self.methods.values():
            if method.shortage is not None:
                warn_user(method.shortage)

    def _say(self, step: str) -> None:
        self.bar.show(f"image {self._done + 1} of {self._count}, {step}")

    def _skip(self, image: str | None, method: str | None, reason: str) -> None:
        """Records a skipped image or method; None means all."""
        self.skipped.append({"image": image, "method": method, "reason": reason})

    def _skip_image(self, name: str, lacking: Sequence[str], reason: str) -> None:
        self._skip(name, None, reason)
        self._done += 1
        self.bar.update(STEPS * len(lacking))

    def _batches(self, work: Sequence[tuple[int, Sequence[str]]]) -> Iterator[list[_Loaded]]:
        """Loads batches of images of equal size; skips images with an invalid file or region."""
        batch: list[_Loaded] = []
        for index, lacking in work:
            if time.monotonic() > self._deadline:
                return
            name = self.samples.names[index]
            try:
                tensor, label = self.samples[index]
                region = region_of(self.regions, name, tensor.shape[1:])
            except (OSError, ValueError) as error:
                self._skip_image(name, lacking, str(error))
                continue
            if batch and tensor.shape != batch[0].tensor.shape:
                yield batch
                batch = []
            digest = self.samples.digest_of(name, tensor)
            batch.append(_Loaded(name, tensor, label, digest, region, lacking))
            if len(batch) == self.settings.batch_size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _batch(self, batch: list[_Loaded]) -> None:
        inputs = channels_last(
            torch.stack([each.tensor for each in batch]).to(device_of(self.model))
        )
        targets = self._targets(batch, inputs)
        if not targets:
            return
        batch, inputs = [batch[index] for index in targets], inputs[[*targets]]
        target = torch.tensor([*targets.values()], device=inputs.device)
        explained = self._explain(batch, inputs, target)
        for index, each in enumerate(batch):
            one = slice(index, index + 1)
            self._say("metrics")
            self._score(each, inputs[one], target[one], explained[index])
            self._done += 1
            self.bar.update(len(each.lacking))
            if time.monotonic() > self._deadline:
                return

    def _targets(self, batch: Sequence[_Loaded], inputs: Tensor) -> dict[int, int]:
        """The class to explain for each image by its index, without skipped images."""
        targets = {}
        for index, logit in enumerate(self._logits(inputs)):
            each = batch[index]
            by_label = self.settings.target == "label"
            if isinstance(logit, str):
                reason = logit
            elif not bool(torch.isfinite(logit).all()):
                reason = "the model returned NaN or inf"
            elif (target := each.label if by_label else int(logit.argmax())) is None:
                reason = "it has no label"
            elif not 0 <= target < len(logit):
                reason = f"its label is {target}, but the model has {len(logit)} classes"
            else:
                targets[index] = target
                continue
            self._skip_image(each.name, each.lacking, reason)
        return targets

    def _logits(self, inputs: Tensor) -> list[Tensor | str]:
        """The logits of each image, or why the model rejects it; raises as ``check_logits``."""

        def run(part: slice) -> Tensor:
            output: Tensor = self.model(inputs[part].clone())
            check_logits(output, part.stop - part.start)
            return output

        try:
            with torch.no_grad(), explaining_errors(self.model, (inputs,), "images of dataset"):
                return list(torch.cat([*self._forward(run, len(inputs))]))
        except RuntimeError as error:
            # Only the first, because an error keeps its images in memory.
            self.refused = self.refused or error
            if len(inputs) == 1:
                return [f"{REJECTED}{reason_of(error)}"]
        return [logit for one in torch.split(inputs, 1) for logit in self._logits(one)]

    def _explain(
        self, batch: Sequence[_Loaded], inputs: Tensor, target: Tensor
    ) -> list[dict[str, ExplainedImage]]:
        """For each image, the results of the methods whose records it lacks."""
        found: list[dict[str, ExplainedImage]] = [{} for _ in batch]
        for name, method in self.methods.items():
            wanted = [index for index, each in enumerate(batch) if name in each.lacking]
            if not wanted or method.gave_up is not None:
                self.bar.update(len(wanted))
                continue
            self._say(method.method.title)
            seeds = [image_seed(batch[index].name, self.settings.seed) for index in wanted]
            results = method(inputs[wanted], target[wanted], seeds)
            for index, result in zip(wanted, results, strict=True):
                if isinstance(result, ExplainedImage):
                    found[index][name] = result
                else:
                    self._skip(batch[index].name, name, result)
            self.bar.update(len(wanted))
        return found

    def _score(
        self,
        image: _Loaded,
        inputs: Tensor,
        target: Tensor,
        explained: Mapping[str, ExplainedImage],
    ) -> None:
        if not explained:
            return
        maps = {method: each.importance for method, each in explained.items()}
        results, _ = self._scoring(inputs, target, maps)
        unknown: dict[str, float] = {}
        if image.region is not None:
            self._outside += not bool(image.region.any())
            results |= localization(maps, image.region)
        elif self.regions is not None:
            unknown = dict.fromkeys(LOCALIZATION_NUMBERS, math.nan)
        region = region_digest(self.regions, image.name)
        for method, each in explained.items():
            record = record_of(
                image=image.name,
                method=method,
                target=int(target),
                digest=image.digest,
                region=region,
                **numbers_of(results, method, each),
                **unknown,
            )
            if record["difference"] is None:
                self._skip(image.name, method, "scores of perturbed images are NaN or inf")
            else:
                self.records.append(record)
