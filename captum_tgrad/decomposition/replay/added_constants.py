"""Sees which constants a network adds, because autograd's graph does not show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.call import NO_RECORD, Call
from captum_tgrad.decomposition.operations.arithmetic import sum_of_two
from captum_tgrad.decomposition.operations.operation_table import operation_of
from captum_tgrad.decomposition.replay.node_constants import Node
from captum_tgrad.decomposition.torch_functions import without_override_check


class AddedConstants(TorchFunctionMode):
    """A context that keeps the constants of the sums and paddings that run in it.

    It takes much less time than recording all operations.
    """

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[Node, tuple[Bias | None, Tensor | None, int]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        record = operation_of(func)
        if record is NO_RECORD and (inner := without_override_check(func)) is not None:
            with self:  # it sees the operations in a Python function
                return inner(*args, **kwargs)
        result = func(*args, **kwargs)
        is_seen = record.bias is sum_of_two or record is _PADDING
        if is_seen and isinstance(result, Tensor) and result.requires_grad:
            self._keep(Call(func, args, kwargs, record), result)
        return result

    def _keep(self, call: Call, result: Tensor) -> None:
        biases = call.closed_forms([result])
        if biases is None:
            return
        names = ("value",) if call.record is _PADDING else ("input", "other")
        operands = [call.bound[name] for name in names]
        constants = [t for t in operands if not (isinstance(t, Tensor) and t.requires_grad)]
        if len(constants) != 1:
            return  # for example a constant to which a result was added in place
        (bias,), (constant,) = biases, constants
        if not isinstance(constant, Tensor):
            self._found[result.grad_fn] = bias, None, 0
        elif not constant.is_inference():
            self._found[result.grad_fn] = bias, constant, constant._version

    def biases_of(self, nodes: Sequence[Node]) -> dict[Node, Bias | None] | None:
        """The biases of the sums and paddings at these nodes: None for the number 0.

        None instead of all if it has not seen one, or if its constant was overwritten since.
        """
        found = {}
        for node in nodes:
            bias, constant, version = self._found.get(node, (None, None, -1))
            if version != (0 if constant is None else constant._version):
                return None
            found[node] = bias
        return found


_PADDING = operation_of(F.pad)
