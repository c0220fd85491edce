"""Scores the maps of all methods with the metrics."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad import metrics
from captum_tgrad._support.out_of_memory import Halving
from captum_tgrad._support.warn import warn_user
from captum_tgrad.evaluation.running.score_dtype import Autocast
from captum_tgrad.evaluation.running.settings import Settings
from captum_tgrad.evaluation.running.timed_method import ExplainedImage
from captum_tgrad.metrics.engine.checks import methods_of
from captum_tgrad.metrics.engine.findings import Findings, no_warnings
from captum_tgrad.metrics.engine.metric import together
from captum_tgrad.metrics.registry import LOCALIZATION_NUMBERS, NUMBERS

Results = dict[str, dict[str, Any]]
"""Results by metric and method."""


class Scoring:
    """Scores maps with the metrics, in smaller chunks if memory is short."""

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self._settings = settings
        dtype = settings.score_dtype
        self._model = model if dtype == torch.float32 else Autocast(model, dtype)
        self._parts = Halving(settings.max_examples_per_batch)
        # For each kind of finding, the number of images of each method or other subject.
        self._findings: defaultdict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._scored = 0

    def __call__(
        self, inputs: Tensor, target: Tensor, maps: Mapping[str, Tensor]
    ) -> tuple[Results, Findings]:
        """The metrics of an image ``(1, C, H, W)``, from one or more maps ``(1, 1, H, W)``."""
        settings = self._settings
        own: dict[str, dict[str, Any]] = {each.function: {} for each in NUMBERS.values()}
        own["insertion_deletion"] = {
            "n_steps": settings.n_steps,
            "ties": settings.ties,
            "return_curves": True,
        }
        shared = {"target": target, "score": settings.score, "nan_policy": "omit"}
        results, findings = self._parts.at_once(
            lambda chunk: together(
                own, self._model, inputs, maps, max_examples_per_batch=chunk, **shared
            )
        )
        self._scored += 1
        names = dict(zip(methods_of(maps), maps, strict=True))
        for kind, where in findings.found.items():
            self._findings[kind].update(names.get(name, name) for name, _ in where)
        return results, findings

    def warn(self) -> None:
        """Issues one UserWarning for each finding, with the number of images of each method."""
        # Without advice, which names arguments of the metrics that the caller does not have.
        for (text, _, label), counts in self._findings.items():
            where = (f"{name}, {count} of {self._scored} images" for name, count in counts.items())
            warn_user(f"{text} {label}: {'; '.join(where)}.")


def numbers_of(results: Results, method: str, explained: ExplainedImage) -> dict[str, float | None]:
    """The numbers of a record of one method; NaN where the model's scores are NaN."""
    curves = results["insertion_deletion"][method]
    numbers = {
        name: float(getattr(results[number.function][method], number.field))
        for name, number in {**NUMBERS, **LOCALIZATION_NUMBERS}.items()
        if number.function in results
    }
    return {
        **numbers,
        "residual": explained.residual,
        "clean_score": float(curves.clean_score),
        "baseline_score": float(curves.insertion_baseline_score),
        "step_error": _step_error(curves),
        "seconds": explained.seconds,
    }


def _step_error(found: Any) -> float | None:
    """The change of the difference of the areas without every second step; None for odd steps."""
    if found.fractions.shape[1] % 2 == 0:
        return None
    curve = found.insertion_curve - found.deletion_curve
    coarse = torch.trapezoid(curve[:, ::2], found.fractions[:, ::2].to(curve))
    return float(coarse - found.difference)


def localization(maps: Mapping[str, Tensor], region: Tensor) -> Results:
    """The results of the localization metrics, from maps ``(1, 1, H, W)``."""
    with no_warnings():  # the metrics of the curves have them, about the same constant maps
        return {
            each.function: getattr(metrics, each.function)(dict(maps), region, nan_policy="omit")
            for each in LOCALIZATION_NUMBERS.values()
        }
