"""Copies of a model, for operations that change it."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import Tensor, nn

ModuleType = TypeVar("ModuleType", bound=nn.Module)


def copy_model(
    model: ModuleType, share_parameters: bool = False
) -> tuple[ModuleType, dict[int, Any]]:
    """Copies a model with its modes, buffers and hooks; nothing done to the copy reaches it.

    With ``share_parameters``, its parameters are frozen views of the model's, which need no memory.
    Also returns the copy of each module of the model by the ``id`` of that module.

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
        duplicate = copy.deepcopy(model, copies)
    except (TypeError, RuntimeError, AttributeError, copy.Error) as error:
        raise TypeError(
            "model cannot be copied, and this function works on a copy to leave yours unchanged:"
            f" copy.deepcopy(model) raised {error!r}. Pass the submodule with the layers, or remove"
            " what cannot be copied."
        ) from error
    return duplicate, {id(module): copies[id(module)] for module in model.modules()}
