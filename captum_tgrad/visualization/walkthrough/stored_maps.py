"""Maps with one byte per cell, for a page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 255
"""The largest value of a cell; the smallest is 0."""

MOST_CELLS = 224
"""The maximum number of cells along a side, so that pages stay small."""


def stored_map(values: Tensor, most: Sequence[int] = (MOST_CELLS, MOST_CELLS)) -> dict[str, Any]:
    """A map as JSON: its size, its largest value, and its cells in base64.

    A cell holds ``q = round(255 * sqrt(value / largest))``, and is read as
    ``largest * (q / 255) ** 2``: it is off by at most ``largest / 255``, and by less where it is
    small. Maps are mostly small values with a few large ones, which equal steps would turn to 0.
    ``values`` are ``(h, w)`` and nowhere negative; with more than ``most`` cells along a side, they
    are averaged.

    Example:
        >>> stored_map(torch.tensor([[0.0, 1.0], [2.0, 4.0]]))
        {'size': [2, 2], 'largest': 4.0, 'cells': 'AIC0/w=='}
    """
    values = values.detach().cpu().double()
    size = [min(pair) for pair in zip(values.shape, most, strict=True)]
    if size != list(values.shape):
        values = F.interpolate(values[None, None], size, mode="area")[0, 0]
    largest = float(values.max())
    levels = (values / largest if largest > 0 else values).sqrt().mul(LEVELS).round()
    cells = bytes(levels.to(torch.uint8).flatten().tolist())
    return {"size": size, "largest": largest, "cells": base64.b64encode(cells).decode("ascii")}
