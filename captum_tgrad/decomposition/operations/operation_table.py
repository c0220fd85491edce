"""The table of all records, and the lookup of a function's record."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch._ops import OpOverload, OpOverloadPacket

from captum_tgrad.decomposition.call import NO_RECORD, Operation
from captum_tgrad.decomposition.operations import (
    activations,
    arithmetic,
    attention,
    clamps,
    composed,
    grids,
    mixing,
    moving,
    normalizations,
    recurrent,
    short_time_fourier,
)
from captum_tgrad.decomposition.operations.native import WITHOUT_BINDING, record_of_native
from captum_tgrad.decomposition.torch_functions import native_name, operation_name

OPERATIONS: dict[str, Operation] = {
    **activations.OPERATIONS,
    **arithmetic.OPERATIONS,
    **attention.OPERATIONS,
    **clamps.OPERATIONS,
    **composed.OPERATIONS,
    **grids.OPERATIONS,
    **mixing.OPERATIONS,
    **moving.OPERATIONS,
    **normalizations.OPERATIONS,
    **recurrent.OPERATIONS,
    **short_time_fourier.OPERATIONS,
}

_BY_FUNCTION: dict[Callable[..., Any], Operation] = {
    F.unfold: moving.PATCHES,
    torch.batch_norm: normalizations.BATCH_NORM,
    torch.instance_norm: normalizations.INSTANCE_NORM,
    torch._C._nn.elu: activations.SCALED_ELU,
    torch._C._nn.elu_: activations.SCALED_ELU,
    torch._C._VariableFunctions.stft: short_time_fourier.SHORT_TIME_FOURIER,  # type: ignore[attr-defined]
    **{  # such as torch.native_layer_norm
        getattr(torch, name): record_of_native(getattr(torch.ops.aten, name))
        for name in WITHOUT_BINDING
        if hasattr(torch, name) and name.rstrip("_") not in OPERATIONS
    },
}


@cache
def operation_of(func: Callable[..., Any]) -> Operation:
    """The record of a torch function, or ``NO_RECORD``."""
    if isinstance(func, (OpOverload, OpOverloadPacket)) and native_name(func)[0] == "aten":
        return record_of_native(func)
    return _BY_FUNCTION.get(func) or OPERATIONS.get(operation_name(func), NO_RECORD)
