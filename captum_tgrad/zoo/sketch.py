"""Networks without memory, to see whether weights fit before any is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _EmptyOnMeta(TorchFunctionMode):
    """Where a layer asks for memory for its weights, it gets a tensor that has a shape only.

    ``torch.device("meta")`` would take what networks compute with while they are built, too.
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
    """What ``build`` returns, with weights of its names and shapes that hold no numbers."""
    with _EmptyOnMeta():
        return build()
