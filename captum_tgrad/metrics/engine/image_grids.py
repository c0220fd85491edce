"""Grids of confidently classified images of different classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.captum_private import TargetType
from captum_tgrad._support.model_errors import explaining_errors
from captum_tgrad._support.output_checks import (
    check_target,
    targets_per_sample,
    with_batch,
)
from captum_tgrad._support.probabilities import probabilities_of
from captum_tgrad._support.untouched import untouched


def confident_images(
    forward_func: Callable[..., Any],
    images: Tensor,
    target: TargetType,
    confidence: float,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """The class of every image, ``(N,)``, and whether it is classified confidently, ``(N,)``."""
    outputs = []
    with untouched(forward_func, images.device), explaining_errors(forward_func, (images,)):
        for part in torch.split(images, chunk):
            output = with_batch(forward_func(part.clone()), len(part))
            if output.dim() != 2:
                raise ValueError(
                    f"forward_func must return logits (N, classes), got {tuple(output.shape)}."
                )
            outputs.append(output)
    together = torch.cat(outputs)
    probability, predicted = probabilities_of(together).max(1)
    classes = predicted
    if target is not None:
        check_target(target, together)
        given = [index[0] % together.shape[1] for index in targets_per_sample(target, len(images))]
        classes = torch.tensor(given, device=predicted.device)
    return classes, (predicted == classes) & (probability >= confidence)


def layouts(classes: Tensor, sure: Tensor, cells: int, n_grids: int | None, seed: int) -> Tensor:
    """Which image is in each cell of each grid, ``(grids, cells)``; only ``sure`` ones are used."""
    of_class = dict(zip(sure.nonzero().flatten().tolist(), classes[sure].tolist(), strict=True))
    different = len(set(of_class.values()))
    if different < cells:
        raise ValueError(
            f"{len(of_class)} of {len(classes)} inputs are classified confidently, of {different}"
            f" classes; a grid needs {cells} images of different classes. Pass more inputs, a lower"
            " confidence or a smaller grid."
        )
    generator = torch.Generator().manual_seed(seed)
    images = list(of_class)
    used = dict.fromkeys(images, 0)
    grids: list[list[int]] = []
    while n_grids is None or len(grids) < n_grids:
        shuffled = torch.randperm(len(images), generator=generator, device="cpu")
        order = [images[place] for place in shuffled.tolist()]
        if n_grids is None:
            # From the classes with the most images left: images of one class cannot share a grid,
            # and some would be left over.
            order = [image for image in order if not used[image]]
            largest = dict(Counter(of_class[image] for image in order).most_common(cells))
            order = [image for image in order if of_class[image] in largest]
        taken: dict[int, int] = {}
        for image in sorted(order, key=lambda image: used[image]):
            if len(taken) < cells:
                taken.setdefault(of_class[image], image)
        if len(taken) < cells:
            break
        for image in taken.values():
            used[image] += 1
        grids.append(list(taken.values()))
    return torch.tensor(grids, device=classes.device)


def tiled(images: Tensor, grid: int) -> Tensor:
    """One image ``(1, C, grid * H, grid * W)`` of ``grid * grid`` images, row by row."""
    rows = [torch.cat(list(row), dim=2) for row in torch.split(images, grid)]
    return torch.cat(rows, dim=1)[None]
