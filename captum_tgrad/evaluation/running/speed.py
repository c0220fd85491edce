"""How the model is called where nobody has said how: the way that was fastest when measured.

``benchmarks/metric_cost.py --tables chunks`` is the measurement; see ``captum_tgrad.metrics``. It
was made on a CPU only: elsewhere, the number of examples is that of ``insertion_deletion``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_tgrad.evaluation.methods.method import EXAMPLES_AT_ONCE

_ON_A_CPU, _ELSEWHERE = 8, 64


def examples_per_batch(given: int | None, device: torch.device) -> int:
    """How many changed images are scored at a time: as given, or what suits the device if None."""
    if given is not None:
        return given
    return _ON_A_CPU if device.type == "cpu" else _ELSEWHERE


def examples_at_once(device: torch.device) -> int:
    """How many examples a method runs at a time that evaluates many for one image."""
    return _ON_A_CPU if device.type == "cpu" else EXAMPLES_AT_ONCE


def in_fast_format(images: Tensor) -> Tensor:
    """Images ``(N, C, H, W)`` with the channels last in memory; only the rounding may differ."""
    return images.contiguous(memory_format=torch.channels_last)
