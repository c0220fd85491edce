"""Runs a model without changing it, or copies it, so that only the copy changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from captum_tgrad._support.random_state import RandomState

ModuleType = TypeVar("ModuleType", bound=nn.Module)

# Layers of torch.nn that behave differently in training mode, some through their dropout.
_BY_MODE = (
    nn.modules.batchnorm._NormBase,
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.RNNBase,
    nn.MultiheadAttention,
)
_WITHOUT_MODE = ("torch.nn.", "torch.ao.nn.quantized.", "torch.export.")


def training_modules(forward_func: Any) -> list[str]:
    """The names of the modules in training mode that may behave differently in evaluation mode.

    Of torch's own layers, only some may; any other module may.
    """
    if not isinstance(forward_func, nn.Module):
        return []
    return [
        name or type(module).__name__
        for name, module in forward_func.named_modules()
        # Frozen scripts have no flag; exported programs always set it, and have their own eval.
        if getattr(module, "training", False)
        and "eval" not in vars(module)
        and (isinstance(module, _BY_MODE) or not type(module).__module__.startswith(_WITHOUT_MODE))
    ]


@contextmanager
def untouched(forward_func: Any, device: torch.device) -> Iterator[None]:
    """A context without gradients that restores the random state and the model's buffers on exit.

    For a function, only the values of buffers are restored: those that the modules it runs had
    before their first call. They are also restored in evaluation mode, since a user's module may
    write to them then. Version counters do not help: neither batch norm nor writes through
    ``.data`` count. Buffers are small compared to the parameters: copying and comparing them costs
    less than one of the many passes of a metric.
    """
    # The names of buffers, the buffers, and their copies. The keys are weak, because a function may
    # create modules in every call.
    saved: WeakKeyDictionary[nn.Module, list[tuple[str, Tensor | None, Tensor | None]]]
    saved, thread = WeakKeyDictionary(), get_ident()

    def save(module: nn.Module, inputs: object = None) -> None:
        # The compiler would trace the rest; tensors of a transform, as of vmap, do not outlive it.
        if torch.compiler.is_compiling() or _functorch.peek_interpreter_stack() is not None:
            return
        if module in saved or get_ident() != thread:
            return
        for each in module.modules():
            if each not in saved:
                saved[each] = [
                    (name, buffer, _copied(buffer)) for name, buffer in each._buffers.items()
                ]

    is_module = isinstance(forward_func, nn.Module)
    watched = nullcontext() if is_module else register_module_forward_pre_hook(save)
    with torch.no_grad(), RandomState(device), watched:
        if is_module:
            save(forward_func)
        try:
            yield
        finally:
            for module, buffers in saved.items():
                for name, buffer, before in buffers:
                    # If the model assigned another tensor to this name, the original one comes
                    # back. A function may have replaced it itself, by functional_call.
                    if is_module:
                        module._buffers[name] = buffer
                    # Unchanged buffers are not written to: some cannot be, such as expanded ones.
                    # Sparse ones cannot be compared.
                    if buffer is None or before is None or buffer.layout != torch.strided:
                        continue
                    if not torch.equal(buffer, before):
                        # Through .data: after another write, autograd would refuse a pending
                        # backward pass of the user's.
                        buffer.data.copy_(before)


def _copied(buffer: Tensor | None) -> Tensor | None:
    """A copy; None for a lazy buffer, which has no values yet."""
    return None if buffer is None or is_lazy(buffer) else buffer.detach().clone()


def copy_model(model: ModuleType, share_parameters: bool = False) -> ModuleType:
    """Copies a model with its modes, buffers and hooks; nothing done to the copy reaches it.

    With ``share_parameters``, its parameters are frozen views of the model's, which need no memory.

    Raises:
        TypeError: Something in the model cannot be copied.
    """
    copies: dict[int, Any] = {}
    for module in model.modules():
        if share_parameters:
            for parameter in module._parameters.values():
                if parameter is not None:
                    # Autograd takes no tensor that was made under torch.inference_mode.
                    own = parameter.clone() if parameter.is_inference() else parameter.detach()
                    view = nn.Parameter(own, requires_grad=False)
                    copies[id(parameter)] = view
        # Results that a module keeps (the weight under torch.nn.utils.weight_norm) belong to a
        # graph, and torch refuses to copy them.
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                copies[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, copies)
    except (TypeError, RuntimeError, AttributeError, copy.Error) as error:
        raise TypeError(
            "model cannot be copied, and this function works on a copy to leave yours unchanged:"
            f" copy.deepcopy(model) raised {error!r}. Pass the submodule with the layers, or remove"
            " what cannot be copied."
        ) from error
