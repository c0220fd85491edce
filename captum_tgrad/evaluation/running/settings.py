"""The settings of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from captum_tgrad._support.arguments import check_count
from captum_tgrad.metrics.baselines import PRESETS
from captum_tgrad.metrics.engine.ranking import Ties

Targets = Literal["predicted", "label"]


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
    score: Literal["softmax", "logit"]
    ties: Ties
    seed: int
    score_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "max_examples_per_batch"):
            check_count(getattr(self, name), name)
        for name, known in (
            ("target", get_args(Targets)),
            ("score", ("softmax", "logit")),
            ("ties", get_args(Ties)),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(map(repr, known))}, got {getattr(self, name)!r}."
                )

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
