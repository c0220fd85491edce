"""Helpers for batches: one image at a time, each with its seed; a leaf copy; a black batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_tgrad.evaluation.methods.method import Black, Compute

ComputeOne = Callable[[Tensor, Tensor, int, int], Tensor]
"""From one image ``(1, C, H, W)``, its target ``(1,)``, its seed and examples at once to a map."""


def one_by_one(compute_one: ComputeOne) -> Compute:
    """Explains the images of a batch one by one.

    For methods whose random numbers must not depend on the other images of the batch, or which
    need much memory for each image.
    """

    def compute(
        inputs: Tensor, target: Tensor, seeds: Sequence[int], examples_at_once: int
    ) -> Tensor:
        ones = zip(torch.split(inputs, 1), torch.split(target, 1), seeds, strict=True)
        return torch.cat([compute_one(*one, examples_at_once) for one in ones])

    return compute


def leaf(inputs: Tensor) -> Tensor:
    """A copy that requires a gradient: Captum would set it on the user's tensor, and warn."""
    return inputs.detach().clone().requires_grad_()


def black_batch(black: Black, inputs: Tensor) -> Tensor:
    """The black image, repeated for each image of the batch."""
    return torch.as_tensor(black).to(inputs).expand_as(inputs).contiguous()
