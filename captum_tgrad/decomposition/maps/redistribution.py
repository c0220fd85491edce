"""The redistribution of evidence from one set of cells to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, borders_of, even_cells


class Bags(NamedTuple):
    """A sparse matrix in the form of ``embedding_bag``, which is faster than a sparse product.

    Args:
        rows: The rows of the numbers, one column after the other.
        starts: The position of the first number of each column.
        values: The numbers.
    """

    rows: Tensor
    starts: Tensor
    values: Tensor


def redistributed(evidence: Tensor, shares: Sequence[Tensor | Bags | None]) -> Tensor:
    """Moves evidence from one set of cells to another.

    Args:
        evidence: Shape ``(..., N, 1, *cells)``.
        shares: For each of the last dimensions, the share of each cell that each new cell gets:
            shape ``(cells, new cells)``, also sparse, or ``(N, cells, new cells)`` with one matrix
            per sample; None if the cells do not change. Those of :func:`ready_for` save time.
    """
    for dim, matrix in enumerate(shares, -len(shares)):
        if matrix is None:
            continue
        if not isinstance(matrix, Bags):
            matrix = _ready_for(evidence, matrix)
        if isinstance(matrix, Bags):
            lines = evidence.movedim(dim, 0)
            table = lines.flatten().view(len(lines), -1)  # embedding_bag is fast for these strides
            rows, starts, values = matrix
            new = F.embedding_bag(rows, table, starts, mode="sum", per_sample_weights=values)
            evidence = new.reshape(-1, *lines.shape[1:]).movedim(0, dim)
        elif matrix.dim() == 3:
            lines = evidence.movedim(dim, -1)
            new = lines.flatten(-1 - len(shares), -2) @ matrix
            evidence = new.reshape(*lines.shape[:-1], -1).movedim(-1, dim)
        elif dim == -1:
            evidence = evidence @ matrix
        else:
            rest = evidence.shape[dim + 1 :]
            mixed = matrix.T @ evidence.flatten(dim + 1)
            evidence = mixed.reshape(*mixed.shape[:-1], *rest)
    return evidence


def shares_in_even_cells(cells: Tensor, extent: int, count: int) -> Tensor:
    """The share of each cell that each of ``count`` equal cells over the axis gets."""
    rows, columns, length = overlaps(cells, even_cells(extent, count))
    counts = length >= SLACK * extent / count
    rows, columns, length = rows[counts], columns[counts], length[counts]
    share = length / rows.bincount(length, len(cells))[rows]
    return matrix_of(rows, columns, share, (len(cells), count))


def overlaps(cells: Tensor, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of overlapping cells and others, and the lengths of their overlaps."""
    low, high = borders_of(cells)
    start, stop = borders_of(others)
    # The borders need not be sorted: a narrow cell may be inside of a wide one.
    first = torch.searchsorted(stop.cummax(0).values, low, right=True)
    last = torch.searchsorted(start.flip(0).cummin(0).values.flip(0), high)
    count = (last - first).clamp_min(0)
    rows = torch.arange(len(cells), device="cpu").repeat_interleave(count)
    before = (count.cumsum(0) - count - first).repeat_interleave(count)
    columns = torch.arange(len(rows), device="cpu") - before
    length = torch.minimum(high[rows], stop[columns]) - torch.maximum(low[rows], start[columns])
    positive = length > 0
    return rows[positive], columns[positive], length[positive]


def matrix_of(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A matrix with the sums of these values, and 0 elsewhere; it is sparse if it is large."""
    if math.prod(shape) > _MOST_IN_DENSE:
        positions = torch.stack([rows, columns])
        return torch.sparse_coo_tensor(
            positions, values, shape, device="cpu", check_invariants=False
        )
    matrix = torch.zeros(shape, dtype=torch.float64, device="cpu")
    return matrix.index_put_((rows, columns), values, accumulate=True)


_MOST_IN_DENSE = 2**20


def sums_of_rows(matrix: Tensor) -> Tensor:
    """The sum of each row of a matrix, also of a sparse one."""
    if not matrix.is_sparse:
        return matrix.sum(1)
    return matrix._indices()[0].bincount(matrix._values(), len(matrix))


def ready_for(like: Tensor, matrices: Sequence[Tensor | None]) -> list[Tensor | Bags | None]:
    """Matrices with the dtype and on the device of a tensor, and as bags if they are sparse."""
    with torch.inference_mode(False):
        return [None if each is None else _ready_for(like, each) for each in matrices]


def _ready_for(like: Tensor, matrix: Tensor) -> Tensor | Bags:
    # MPS has no sparse matrices.
    matrix = (matrix.to_dense() if like.device.type == "mps" else matrix).to(like)
    if not matrix.is_sparse:
        return matrix
    transposed = matrix.t().coalesce()
    columns, rows = transposed.indices()
    count = columns.bincount(minlength=matrix.shape[1])
    return Bags(rows, count.cumsum(0) - count, transposed.values())
