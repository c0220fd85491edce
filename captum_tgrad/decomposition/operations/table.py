"""All records, and how to find the one of a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from captum_tgrad.decomposition.call import operation_name
from captum_tgrad.decomposition.operations import (
    activations,
    arithmetic,
    grids,
    mixing,
    moving,
    normalizations,
)
from captum_tgrad.decomposition.operations.operation import Operation

OPERATIONS: dict[str, Operation] = {
    **activations.OPERATIONS,
    **arithmetic.OPERATIONS,
    **grids.OPERATIONS,
    **mixing.OPERATIONS,
    **moving.OPERATIONS,
    **normalizations.OPERATIONS,
}

_BY_FUNCTION: dict[Callable[..., Any], Operation] = {
    F.unfold: moving.PATCHES,
    torch.batch_norm: normalizations.BATCH_NORM,
}


def operation_of(func: Callable[..., Any]) -> Operation | None:
    """The record of a torch function; None if there is none."""
    return _BY_FUNCTION.get(func) or OPERATIONS.get(operation_name(func))
