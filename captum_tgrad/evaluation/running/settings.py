"""The settings of an evaluation, and defaults for its speed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from captum_tgrad._support.arguments import check_choice, check_count
from captum_tgrad.evaluation.methods.method import EXAMPLES_AT_ONCE
from captum_tgrad.metrics.baselines import PRESETS
from captum_tgrad.metrics.engine.ranking import Ties

Targets = Literal["predicted", "label"]
Scores = Literal["softmax", "logit"]


@dataclass(frozen=True)
class Settings:
    """The arguments of ``evaluate`` that its numbers depend on.

    Raises:
        TypeError: A number is not an integer.
        ValueError: A number is not positive, or a name is unknown.
    """

    target: Targets
    n_steps: int
    batch_size: int
    max_examples_per_batch: int
    score: Scores
    ties: Ties
    seed: int
    score_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "max_examples_per_batch"):
            check_count(getattr(self, name), name)
        for name, choices in (("target", Targets), ("score", Scores), ("ties", Ties)):
            check_choice(getattr(self, name), choices, name)

    def protocol(self) -> dict[str, Any]:
        """The settings for the protocol; ``max_examples_per_batch`` only changes rounding."""
        baseline = PRESETS["paper"]["insertion"]
        found = {
            "target": {"predicted": "predicted class", "label": "label"}[self.target],
            "n_steps": self.n_steps,
            "baseline": getattr(baseline, "__name__", repr(baseline)),
            "average_drop_baseline": 0,
            "score": self.score,
            "ties": self.ties,
            "channel_reduce": "sum",
            "interpolate_mode": "bilinear",
            "seed": self.seed,
            "batch_size": self.batch_size,
        }
        if self.score_dtype != torch.float32:
            found["score_dtype"] = str(self.score_dtype).removeprefix("torch.")
        return found


# Fastest on a CPU in ``benchmarks/metric_cost.py --tables chunks``; others were not measured.
_ON_A_CPU, _ELSEWHERE = 8, 64


def examples_per_batch(given: int | None, device: torch.device) -> int:
    """Perturbed images per call of the model: as given, or the device's default if None."""
    if given is not None:
        return given
    return _ON_A_CPU if device.type == "cpu" else _ELSEWHERE


def examples_at_once(device: torch.device) -> int:
    """Examples per call for methods that evaluate many for one image."""
    return _ON_A_CPU if device.type == "cpu" else EXAMPLES_AT_ONCE


def channels_last(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` in channels-last memory format; only rounding may differ."""
    return images.contiguous(memory_format=torch.channels_last)
