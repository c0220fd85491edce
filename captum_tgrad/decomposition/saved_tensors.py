"""Keeps the activations of checkpointed blocks, which must not run again outside the trace."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import set_checkpoint_early_stop


def kept_in_memory() -> AbstractContextManager[object]:
    """A context in which activation checkpointing does not replace what autograd saves.

    A checkpointed block runs again in the backward pass, outside of the trace, and autograd would
    find other tensors than in the first run.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is None or "_checkpoint_hook" not in getattr(hooks[0], "__qualname__", ""):
        return _nothing
    return torch.autograd.graph.saved_tensors_hooks(_packed, _unpacked)


def checkpoints_run_fully() -> AbstractContextManager[object]:
    """A context in which a checkpointed block that runs again is compared with its first run.

    It does so for a hidden operation, and finds other tensors. torch compares them only at the end
    of the block, which it usually does not reach.
    """
    return set_checkpoint_early_stop(False)


_nothing = nullcontext()


def _packed(tensor: Tensor) -> tuple[Tensor, int]:
    # Detached, because a node that holds its own result is never freed.
    return tensor.detach(), tensor._version


def _unpacked(packed: Any) -> Tensor:
    tensor, version = packed
    if tensor._version != version:
        raise RuntimeError(
            "a tensor that a checkpointed block needs for its gradient was modified in place"
        )
    saved: Tensor = tensor
    return saved
