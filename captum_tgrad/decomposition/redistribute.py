"""A map of evidence on another grid, where no evidence is lost or made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def redistribute(evidence: Tensor, spatial: Sequence[int]) -> Tensor:
    """Gives each cell's evidence to the cells of another grid, by how much of it they cover.

    Args:
        evidence: Shape ``(N, 1, *any)``.
        spatial: The new extents of the spatial axes.

    Returns:
        Shape ``(N, 1, *spatial)``; the sum of each sample is what it was.
    """
    for axis, extent in enumerate(spatial, start=2):
        if evidence.shape[axis] != extent:
            covers = _covers(evidence.shape[axis], extent).to(evidence)
            evidence = (evidence.movedim(axis, -1) @ covers).movedim(-1, axis)
    return evidence


@lru_cache(maxsize=256)
def _covers(cells: int, others: int) -> Tensor:
    """What share of each cell each of the others covers, ``(cells, others)``: rows add up to 1."""
    # In units of 1 / (cells * others) of the axis, where all borders are whole numbers.
    start, other_start = torch.arange(cells)[:, None] * others, torch.arange(others) * cells
    end = torch.minimum(start + others, other_start + cells)
    covered = (end - torch.maximum(start, other_start)).clamp_min(0)
    return covered.double() / others
