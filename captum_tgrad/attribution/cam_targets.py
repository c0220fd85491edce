"""Converts Captum's targets to those of the ``grad-cam`` package: one callable per sample."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_tgrad.attribution.output_checks import check_target, targets_per_sample

CamTarget = Callable[[Tensor], Tensor]


def selected_indices(target: Any, output: Tensor, samples: int) -> list[tuple[int, ...]] | None:
    """The indices to select from the output of each sample; None for the library's choice.

    ``output`` is that of one sample, ``(1, ...)``.

    Raises:
        TypeError: ``target`` does not hold integers.
        ValueError: ``target`` does not select one output per sample.
    """
    if target is None and output.dim() == 2:
        return None
    check_target(target, output.expand(samples, *output.shape[1:]))
    if target is None:
        return [(0,) * (output.dim() - 1)] * samples
    return targets_per_sample(target, samples)


def cam_targets(indices: list[tuple[int, ...]] | None) -> list[CamTarget] | None:
    """The library's targets, for the batch or for one sample of it."""
    if indices is None:
        return None
    return [functools.partial(_select, index) for index in indices]


def _select(index: tuple[int, ...], output: Tensor) -> Tensor:
    # SESS passes the output of a whole batch, all other classes that of one sample.
    for number in reversed(index):
        output = output[..., number]
    return output
