"""Networks on the meta device, to check whether weights fit before memory is allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _EmptyOnMeta(TorchFunctionMode):
    """Allocates the weights of layers on the meta device.

    ``torch.device("meta")`` would also affect tensors that networks compute with during
    construction.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.empty and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)


def sketch(build: Callable[[], nn.Module]) -> nn.Module:
    """The result of ``build`` with weights on the meta device."""
    with _EmptyOnMeta():
        return build()
