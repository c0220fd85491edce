"""Checks of the arguments of an evaluation."""

from __future__ import annotations

import warnings
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_tgrad._support.untouched import training_modules

_SCORE_DTYPES = (torch.float32, torch.bfloat16)


def check_out(out: Any, resume: bool) -> None:
    """Raises TypeError or ValueError unless ``out`` names a folder, or is None without resuming."""
    if out is None:
        if resume:
            raise ValueError("resume=True needs the folder of the records: pass it as out.")
        return
    if not isinstance(out, (str, Path)):
        raise TypeError(f"out must be the path of a folder or None, got {type(out).__name__}.")
    if isinstance(out, str) and not out.strip():
        raise ValueError(f"out must be a folder, got {out!r}: pass a path, or None for no files.")


def check_budget(budget: Any) -> None:
    """Raises TypeError or ValueError unless it is a positive number of seconds or None."""
    if budget is None:
        return
    if isinstance(budget, bool) or not isinstance(budget, Real):
        raise TypeError(f"budget must be a number of seconds or None, got {budget!r}.")
    if not float(budget) > 0:
        raise ValueError(f"budget must be a positive number of seconds, got {budget!r}.")


def check_black(black: Any) -> None:
    """Raises TypeError unless it is a number or an image, and ValueError unless it is finite."""
    is_tensor = isinstance(black, Tensor)
    if black.dim() not in (0, 3) if is_tensor else not isinstance(black, Real):
        got = f"shape {tuple(black.shape)}" if is_tensor else repr(black)
        raise TypeError(f"black must be a number or a tensor (C, H, W), got {got}.")
    if not bool(torch.as_tensor(black).isfinite().all()):
        raise ValueError("black holds NaN or inf: pass the model's input for a black image.")


def check_model(model: Any) -> None:
    """Raises TypeError unless it is a module, and ValueError if it is in training mode."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}."
        )
    if training := training_modules(model):
        raise ValueError(
            f"model is in training mode, so its scores are random: call model.eval(). In training"
            f" mode: {', '.join(training[:5])}."
        )


def check_score_dtype(dtype: Any, model: nn.Module, device: torch.device) -> None:
    """Raises ValueError unless the passes can run in this precision."""
    if dtype not in _SCORE_DTYPES:
        known = " or ".join(map(str, _SCORE_DTYPES))
        raise ValueError(f"score_dtype must be {known}, got {dtype!r}.")
    if dtype == torch.float32:
        return
    for name, each in model.named_parameters():
        if each.is_floating_point() and each.dtype != torch.float32:
            raise ValueError(
                f"score_dtype={dtype} needs a model in float32, but its {name!r} is in"
                f" {each.dtype}: call model.float(), or use score_dtype=torch.float32, which keeps"
                " the dtype of the model."
            )
    with warnings.catch_warnings():
        # Without support, torch raises an error on some devices, and only warns on others.
        warnings.simplefilter("ignore")
        try:
            with torch.autocast(device.type, dtype):
                works = torch.is_autocast_enabled(device.type)
        except RuntimeError:
            works = False
    if not works:
        raise ValueError(
            f"score_dtype={dtype} is not supported by autocast on {device.type}: use torch.float32"
            " (--score-dtype float32)."
        )
