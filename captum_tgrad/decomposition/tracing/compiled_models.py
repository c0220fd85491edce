"""Runs compiled models eagerly during a trace, which cannot see into compiled graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from captum_tgrad._support.shared_context import SharedContext


def uncompiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The module that ``torch.compile`` wrapped, unless the wrapper has hooks; else ``forward``."""
    original = getattr(forward, "_orig_mod", forward)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    has_hooks = any(getattr(forward, name, None) for name in hooks)
    return original if callable(original) and not has_hooks else forward


def compiled_models_run_eagerly() -> AbstractContextManager[None]:
    """A context in which ``torch.compile``d functions run their original code."""
    # Nothing is compiled before the import of the compiler, which takes seconds.
    return _eager if "torch._dynamo" in sys.modules else nullcontext()


_eager = SharedContext(lambda: torch.compiler.set_stance("force_eager"))
