"""Defaults for the speed of the model, as measured.

``benchmarks/metric_cost.py --tables chunks`` is the measurement; see ``captum_tgrad.metrics``. It
was made on a CPU only; other devices use the default of ``insertion_deletion``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.evaluation.methods.method import EXAMPLES_AT_ONCE

_ON_A_CPU, _ELSEWHERE = 8, 64


def examples_per_batch(given: int | None, device: torch.device) -> int:
    """Perturbed images per call of the model: as given, or the device's default if None."""
    if given is not None:
        return given
    return _ON_A_CPU if device.type == "cpu" else _ELSEWHERE


def examples_at_once(device: torch.device) -> int:
    """Examples per call for methods that evaluate many for one image."""
    return _ON_A_CPU if device.type == "cpu" else EXAMPLES_AT_ONCE


def in_fast_format(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` in channels-last memory format; only rounding may differ."""
    return images.contiguous(memory_format=torch.channels_last)
