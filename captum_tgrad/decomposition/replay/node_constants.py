"""Reads the constant arguments of operations from the nodes of autograd's graph."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from captum_tgrad.decomposition.operations.native import as_subscript

Node = Any
"""A node of autograd's graph."""

_PARAMETER = torch._C._functions.AccumulateGrad


def is_constant(source: Node) -> bool:
    """Whether a source of a node is a parameter or was moved from one, or requires no gradient.

    Examples are the transposed weight of a linear layer, an expanded class token, and position
    biases that are picked from a table.
    """
    if source is None or type(source) is _PARAMETER:
        return True
    kind = type(source).__name__
    while kind in _MOVE_CONSTANTS:
        child, (source, _) = source, source.next_functions[0]
        kind = type(source).__name__
        if type(child).__name__ == "CloneBackward0" and kind == "AccumulateGrad":
            return isinstance(source.variable, Parameter)  # otherwise the copy of the input
    return kind in ("AccumulateGrad", "NoneType")


def has_constant(node: Node) -> bool:
    """Whether an argument of a node's operation is a constant."""
    return any(is_constant(source) for source, _ in node.next_functions)


def parameter_of(node: Node, position: int) -> Tensor | None:
    """The value of a constant argument: a parameter, moved as the graph says; None if it is none.

    Copies of autocast keep the dtype of the parameter.
    """
    source, _ = node.next_functions[position]
    return _moved_parameter(source) if is_constant(source) else None


def _moved_parameter(source: Node) -> Tensor | None:
    kind = type(source).__name__
    if kind not in _MOVE_CONSTANTS:
        parameter: Tensor | None = getattr(source, "variable", None)
        return None if parameter is None else parameter.detach()
    before = _moved_parameter(source.next_functions[0][0])
    return None if before is None else _MOVE_CONSTANTS[kind](source, before)


def _reshaped(node: Node, before: Tensor) -> Tensor:
    return before.reshape(node._input_metadata[0].shape)


_MOVE_CONSTANTS: dict[str, Callable[[Node, Tensor], Tensor]] = {
    "CloneBackward0": lambda node, before: before,
    "EmbeddingBackward0": lambda node, before: before[node._saved_indices],
    "ExpandBackward0": lambda node, before: before.expand(node._input_metadata[0].shape),
    "IndexBackward0": lambda node, before: before[as_subscript(node._saved_indices)],
    "PermuteBackward0": lambda node, before: before.permute(node._saved_dims),
    "TBackward0": lambda node, before: before.t(),
    "ToCopyBackward0": lambda node, before: before,
    "TransposeBackward0": lambda node, before: before.transpose(
        *(ctypes.c_int64(dim).value for dim in (node._saved_dim0, node._saved_dim1))
    ),
    "UnsafeViewBackward0": _reshaped,
    "UnsqueezeBackward0": _reshaped,
    "ViewBackward0": _reshaped,
}
"""Nodes that move the elements of a constant, and how."""
