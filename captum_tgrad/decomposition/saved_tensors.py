"""Keeps the activations of checkpointed blocks, so that they do not run again without the trace."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.utils.checkpoint import set_checkpoint_early_stop

from captum_tgrad.decomposition.old_values import Kept


def kept_in_memory() -> AbstractContextManager[object]:
    """A context in which autograd saves tensors as usual, also inside of checkpointed blocks.

    Checkpointing would run the block again in the backward pass, without the trace. Its operations
    would then save other tensors than in the first run.
    """
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if hooks is None or "_checkpoint_hook" not in getattr(hooks[0], "__qualname__", ""):
        return _nothing
    return torch.autograd.graph.saved_tensors_hooks(_packed, _unpacked)


def checkpoints_run_fully() -> AbstractContextManager[object]:
    """A context in which a checkpointed block runs again to its end, where torch checks it.

    A block with a hidden operation still runs again, and saves other tensors than in the first run.
    By default, torch stops such a run early and does not notice.
    """
    return set_checkpoint_early_stop(False)


_nothing = nullcontext()


def _packed(tensor: Tensor) -> Kept:
    return Kept([tensor])


def _unpacked(kept: Kept) -> Tensor:
    (tensor,) = kept.read()
    return tensor
