"""The settings of an evaluation: defaults for its speed, and checks of its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_tgrad._support.arguments import check_choice, check_count
from captum_tgrad._support.suggest import few
from captum_tgrad._support.untouched import training_modules
from captum_tgrad.evaluation.methods.method import EXAMPLES_AT_ONCE
from captum_tgrad.metrics.baselines import PRESETS
from captum_tgrad.metrics.engine.ranking import Ties

Targets = Literal["predicted", "label"]
ScoreName = Literal["softmax", "logit"]


@dataclass(frozen=True)
class Settings:
    """The arguments of ``evaluate`` that its numbers depend on; raises for invalid ones."""

    target: Targets
    n_steps: int
    batch_size: int
    max_examples_per_batch: int
    score: ScoreName
    ties: Ties
    seed: int
    score_dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        least = {"n_steps": 1, "batch_size": 1, "max_examples_per_batch": 1, "seed": 0}
        for name, lowest in least.items():
            # As an int, since JSON has no integers of NumPy.
            object.__setattr__(self, name, check_count(getattr(self, name), name, lowest))
        for name, choices in (("target", Targets), ("score", ScoreName), ("ties", Ties)):
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


def check_arguments(model: Any, out: Any, resume: bool, black: Any, budget: Any) -> None:
    """Raises TypeError or ValueError for arguments of ``evaluate`` that are invalid."""
    if out is None and resume:
        raise ValueError("resume=True needs the folder of the records: pass it as out.")
    if out is not None and not isinstance(out, (str, Path)):
        raise TypeError(f"out must be the path of a folder or None, got {type(out).__name__}.")
    if isinstance(out, str) and not out.strip():
        raise ValueError(f"out must be a folder, got {out!r}: pass a path, or None for no files.")
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}."
        )
    if training := training_modules(model):
        raise ValueError(
            "model is in training mode, so its scores may be random: call model.eval(). In"
            f" training mode: {few(training, 5)}."
        )
    is_tensor = isinstance(black, Tensor)
    fits = black.dim() in (0, 3) if is_tensor else isinstance(black, Real)
    if not fits:
        got = f"shape {tuple(black.shape)}" if is_tensor else repr(black)
        raise TypeError(f"black must be a number or a tensor (C, H, W), got {got}.")
    if not bool(torch.as_tensor(black).isfinite().all()):
        raise ValueError("black holds NaN or inf: pass the model's input for a black image.")
    if budget is not None and (isinstance(budget, bool) or not isinstance(budget, Real)):
        raise TypeError(f"budget must be a number of seconds or None, got {budget!r}.")
    if budget is not None and not float(budget) > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {budget!r}.")
