"""The cells of a map, along all axes of an input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from captum_tgrad.decomposition.places.cells import SLACK, even_cells


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """The cells of a map, in pixels of its input.

    Args:
        axes: For each spatial axis of the input the middle and the width of the cells, sorted:
            shape ``(cells, 2)``, float64. Pixel ``i`` reaches from ``i - 0.5`` to ``i + 0.5``.
        extents: The number of pixels of the input along each axis.
        sides: The resolution of the term if the samples have different cells, so that the map is in
            pixels: the smallest side of a cell on each axis, or ``extents`` if no sample has more
            than one cell.
    """

    axes: tuple[Tensor, ...]
    extents: tuple[int, ...]
    sides: tuple[float, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The state to save, without the cached properties."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def __repr__(self) -> str:
        cells, pixels = (" x ".join(map(str, each)) for each in (self.sizes, self.extents))
        return f"Grid({cells} cells on {pixels} pixels)"

    @property
    def sizes(self) -> list[int]:
        """The number of cells along each axis."""
        return [len(cells) for cells in self.axes]

    @property
    def has_one_cell(self) -> bool:
        """Whether no sample has more than one cell."""
        return math.prod(self.sizes) == 1 or self.sides == self.extents

    @property
    def finest_sides(self) -> Sequence[float]:
        """The sides of the smallest cell, in pixels."""
        return self.sides or [float(cells[:, 1].min()) for cells in self.axes]

    @cached_property
    def covers_evenly(self) -> bool:
        """Whether cells of equal width cover the whole input."""
        for cells, extent in zip(self.axes, self.extents, strict=True):
            even = even_cells(extent, len(cells))
            if not torch.allclose(cells[:, 0], even[:, 0], atol=SLACK * float(even[0, 1])):
                return False
        return True

    @cached_property
    def key(self) -> object:
        """A key that is equal for equal grids."""
        return (self.sides, self.extents, *[cells.numpy().tobytes() for cells in self.axes])
