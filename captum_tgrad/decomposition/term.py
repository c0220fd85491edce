"""One summand of the output: its name, its score, and its maps on the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from captum_tgrad._support.show import numbers
from captum_tgrad.decomposition.maps.enlarging import on_whole_input
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.precision import without_autocast


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """The range of a term's elements ``a = gradient * b`` before its channels are summed.

    Args:
        smallest: ``min |a|`` over channels and positions, shape ``(N,)``.
        largest: ``max |a|``, shape ``(N,)``.
        elements: The number of elements in each cell of the map, each weighted with the input's
            share in it: shape ``(N, 1, *cells)``.
    """

    smallest: Tensor
    largest: Tensor
    elements: Tensor


@dataclass(frozen=True, eq=False)
class TermMap:
    """The share of one input in a term.

    Args:
        positive: ``ReLU(a)``, summed over channels, with the elements ``a = gradient * b`` of the
            term: shape ``(N, 1, *cells)``, or ``(N, 1)`` if it has no position on the input.
        negative: ``ReLU(-a)``; the same shape.
        score: The sum of ``positive`` minus the sum of ``negative``, shape ``(N,)``.
        placed: The share of the evidence with a position, from 0 to 1, shape ``(N,)``. The rest is
            spread evenly over the cells.
        grid: The cells, in pixels of the input; None if the term has no position on it.
    """

    positive: Tensor
    negative: Tensor
    score: Tensor
    placed: Tensor
    grid: Grid | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Term:
    """One term of a decomposition: its name, its score, and its maps.

    Source: Tran, Mai, Le and Le, "T-Grad", the terms of eq. 6, and eq. 9 for the two maps.

    Args:
        name: The path of the module that adds the term. If the module has several operations, the
            operation's name follows (``"features.4.block.1:mul"``); if it is called again, a count
            (``"conv#2"``). Outside of all modules, the operation's name. ``"input"`` is the term of
            the input, ``"input 0"`` and so on for several inputs. ``"features.4:hidden"`` is the
            term of operations that the trace cannot see.
        score: The term's signed share of the output, shape ``(N,)``: the sum of the scores of
            ``maps``.
        maps: The share of each input in the term, by the input's number. An element of the term is
            divided equally among the inputs on which it depends.
        magnitudes: The range of ``|a|`` on each input, by its number, if a method needs it.
        lost_at: The operation that lost the positions, this one or an earlier one; else empty.
    """

    name: str
    score: Tensor
    maps: Mapping[int, TermMap] = field(repr=False)
    magnitudes: Mapping[int, Magnitudes] = field(default_factory=dict)
    lost_at: str = ""

    @property
    def inputs(self) -> tuple[int, ...]:
        """The numbers of the network's inputs on which the term depends."""
        return tuple(sorted(self.maps))

    @cached_property
    def positive(self) -> Tensor:
        """The evidence for the target, ``ReLU(a)``, summed over channels.

        Shape ``(N, 1, *spatial)`` at the operation's own resolution, ``(N, 1)`` without a position.
        It covers the whole input, with zeros where the network cropped it. Of several inputs, it is
        the share of the first one on which the term has a position.
        """
        return self._on_whole_input(self._shown.positive)

    @cached_property
    def negative(self) -> Tensor:
        """The evidence against the target, from ``ReLU(-a)``; the same shape as ``positive``."""
        return self._on_whole_input(self._shown.negative)

    @property
    def _shown(self) -> TermMap:
        maps = [self.maps[number] for number in self.inputs]
        return next((each for each in maps if each.grid is not None), maps[0])

    def _on_whole_input(self, evidence: Tensor) -> Tensor:
        grid = self._shown.grid
        if grid is None:
            return evidence
        with torch.inference_mode(False), torch.no_grad(), without_autocast(evidence):
            return on_whole_input(evidence, grid)

    def __getstate__(self) -> dict[str, Any]:
        """The state to save, without the cached properties, which follow from ``maps``."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def placed(self) -> Tensor:
        """The share of the term's evidence with a position on an input, shape ``(N,)``."""
        return torch.stack([each.placed for each in self.maps.values()]).amax(0)

    @property
    def resolution(self) -> str:
        """The size of the map, such as ``"7 x 7"``; ``"-"`` if the term has no position."""
        return " x ".join(map(str, self.positive.shape[2:])) or "-"

    def __repr__(self) -> str:
        return f"Term({self.name!r}, score {numbers(self.score)}, map {self.resolution})"
