"""A batch of images: taken one by one, each with its seed, copied, or as large a black batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_tgrad.evaluation.methods.method import Black, Compute

ComputeOne = Callable[[Tensor, Tensor, int, int], Tensor]
"""From one image ``(1, C, H, W)``, its target ``(1,)``, its seed and examples at once to a map."""


def one_by_one(compute_one: ComputeOne) -> Compute:
    """A batch as its images.

    For methods whose random numbers must not depend on which images are beside one, or which need
    much memory for each image.
    """

    def compute(
        inputs: Tensor, target: Tensor, seeds: Sequence[int], examples_at_once: int
    ) -> Tensor:
        maps = [
            compute_one(
                inputs[index : index + 1], target[index : index + 1], seed, examples_at_once
            )
            for index, seed in enumerate(seeds)
        ]
        return torch.cat(maps)

    return compute


def leaf(inputs: Tensor) -> Tensor:
    """A copy that asks for a gradient: Captum would ask for it on the user's tensor, and warn."""
    return inputs.detach().clone().requires_grad_()


def black_batch(black: Black, inputs: Tensor) -> Tensor:
    """The black image, once for each image."""
    return torch.as_tensor(black).to(inputs).expand_as(inputs).contiguous()
