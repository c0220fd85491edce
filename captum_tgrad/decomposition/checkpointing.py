"""Keeps the activations of checkpointed blocks, so that these do not run without the trace."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from captum_tgrad.decomposition.copy_on_write import CopyOnWrite


def without_checkpointing() -> AbstractContextManager[object]:
    """A context in which autograd saves tensors as usual, even inside of a checkpointed block.

    Otherwise the block would run again in the backward pass, without the trace, and its operations
    would save other tensors than in the first run.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is None or "_checkpoint_hook" not in getattr(hooks[0], "__qualname__", ""):
        return _nothing
    return torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: CopyOnWrite([tensor]), lambda kept: kept.read()[0]
    )


_nothing = nullcontext()
