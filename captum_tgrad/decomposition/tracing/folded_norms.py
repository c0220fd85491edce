"""Runs a convolution and the batch norm after it as one convolution.

This saves a pass over the activation in each direction. The folded convolution runs before the
network calls the batch norm, which is expected to be the next module. If the network reads the
result of the convolution in another way, the terms are wrong: it has to run again without folding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ReferenceType, ref

import torch
from torch import Tensor
from torch.nn.modules import module as hooks
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from captum_tgrad.decomposition.call import Call, NoRuleError
from captum_tgrad.decomposition.hidden.hidden_operations import HiddenOperations
from captum_tgrad.decomposition.nested import map_tensors
from captum_tgrad.decomposition.operations.helpers import require_constant, require_plain
from captum_tgrad.decomposition.operations.normalizations import (
    affine_of_batch_norm,
    scale_and_shift,
)
from captum_tgrad.decomposition.torch_functions import operation_name
from captum_tgrad.decomposition.tracing.running_modules import RunningModules


class _WithoutValues(torch.autograd.Function):
    """A tensor like another one, but whatever reads its values raises RuntimeError.

    Scripts, other threads and transforms of ``torch.func`` read tensors unseen by the trace.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        result = torch.from_numpy(tensor.detach().numpy())  # another storage of the same memory
        torch._C._set_storage_data_ptr_access_error_msg(
            result.untyped_storage()._cdata,
            "captum_tgrad ran a convolution and the batch norm after it as one: it has no values",
        )
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


@dataclass
class _Folded:
    """A convolution that ran with the batch norm after it.

    Args:
        result: Stands for the result of the convolution alone, which is not computed.
        normalized: The result of the batch norm.
        affine: The scale and the shift of each channel.
        is_normalized: Whether the network has called the batch norm.
    """

    result: ReferenceType[Tensor]
    normalized: Tensor
    affine: tuple[Tensor, Tensor]
    is_normalized: bool = False

    def convolved(self) -> Tensor:
        """The result of the convolution, but for rounding.

        It is only for the rest of a forward pass that will run again: its values are others if the
        network has overwritten the result of the batch norm.
        """
        rank = self.normalized.dim() - 2
        scale, shift = (each.reshape(-1, *[1] * rank) for each in self.affine)
        return (self.normalized - shift) / scale


class FoldedNorms:
    """The batch norms of a forward pass that run as parts of convolutions.

    Args:
        modules: The modules that are running.
        hidden: The operations that the trace cannot see.
        are_allowed: Whether convolutions may be folded. If so, the caller checks afterwards whether
            their results :attr:`were_read_between`.
    """

    def __init__(
        self, modules: RunningModules, hidden: HiddenOperations, are_allowed: bool
    ) -> None:
        self._are_allowed = are_allowed
        self._has_read_between = False
        self._modules = modules
        self._hidden = hidden
        self._folded: list[_Folded] = []
        self._nodes: set[int] = set()

    def fold(self, call: Call) -> tuple[Tensor, Call, Tensor] | None:
        """Runs a convolution together with the batch norm after it.

        Returns:
            A tensor that stands for the result of the convolution alone, the convolution with the
            scale of the batch norm, and the result of the batch norm. None if it is not folded.
        """
        norm = self._next_norm() if self._are_allowed else None
        if norm is None or torch.is_autocast_enabled("cpu"):
            return None
        x, weight, bias, *options = (call.bound[name] for name in call.record.parameters)
        try:
            require_plain(call)
            require_constant(weight, bias)
        except NoRuleError:
            return None
        if x.dim() != weight.dim():
            return None  # without a batch dimension, the batch norm takes the rows as channels
        if weight.shape[1:].numel() > 2 * len(x) * x.shape[2:].numel():
            return None  # scaling the weight would take longer
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        with torch.no_grad():
            scale, shift = scale_and_shift(mean, variance, norm.weight, norm.bias, norm.eps)
        if len(scale) != len(weight) or not weight.dtype == scale.dtype == shift.dtype:
            return None
        weight = weight * scale.reshape(-1, *[1] * (weight.dim() - 1))
        bias = None if bias is None else bias * scale
        scaled = Call(call.func, (x, weight, bias, *options), {}, call.record)
        normalized: Tensor = call.func(x, weight, shift if bias is None else bias + shift, *options)
        result: Tensor = _WithoutValues.apply(normalized)
        self._folded.append(_Folded(ref(result), normalized, (scale, shift)))
        self._nodes.add(result.grad_fn._sequence_nr())  # type: ignore[union-attr]
        return result, scaled, normalized

    def _next_norm(self) -> _BatchNorm | None:
        """The batch norm that is expected after the running convolution."""
        module, norm = self._modules.innermost, self._modules.next_module
        if (
            isinstance(module, _ConvNd)
            and isinstance(norm, _BatchNorm)
            and norm.running_mean is not None
            and norm.running_var is not None
            and not norm.training
            # A hook may read the result.
            and not module._forward_hooks
            and not norm._forward_pre_hooks
            and len(hooks._global_forward_hooks) == len(hooks._global_forward_pre_hooks) == 1
        ):
            return norm
        return None

    def normalize(self, call: Call) -> Tensor | None:
        """The result of a batch norm that has run as part of a convolution; None for others."""
        for folded in self._folded:
            if folded.result() is call.args[0] and not folded.is_normalized:
                if not all(map(torch.equal, affine_of_batch_norm(call), folded.affine)):
                    self._has_read_between = True
                    result: Tensor = call.with_first(folded.convolved())()
                    return result
                folded.is_normalized = True
                return folded.normalized
        return None

    def before_call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Returns the arguments of a call with the values of all results that it reads.

        The first batch norm after a convolution does not need them.
        """
        if not self._folded:
            return args, kwargs
        self._forget_freed()
        is_norm = operation_name(func) == "batch_norm"

        def computed(tensor: Tensor) -> Tensor:
            for folded in self._folded:
                if folded.result() is tensor and (folded.is_normalized or not is_norm):
                    self._has_read_between = True
                    return folded.convolved()
            return tensor

        return map_tensors(args, computed), map_tensors(kwargs, computed)

    @property
    def were_read_between(self) -> bool:
        """Whether the result of a convolution was read, or may be, but not by its batch norm.

        The terms are then wrong.
        """
        self._forget_freed()
        if self._has_read_between or self._folded:
            return True
        return not self._nodes.isdisjoint(self._hidden.nodes_read)

    def _forget_freed(self) -> None:
        self._folded = [
            folded
            for folded in self._folded
            if not folded.is_normalized or folded.result() is not None
        ]
