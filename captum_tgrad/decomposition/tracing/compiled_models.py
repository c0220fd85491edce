"""Runs compiled models eagerly during a trace, which cannot see into compiled graphs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_running = 0
_stance: Any = None


def uncompiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The module that ``torch.compile`` wrapped, unless the wrapper has hooks; else ``forward``."""
    original = getattr(forward, "_orig_mod", forward)
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    has_hooks = any(getattr(forward, name, None) for name in hooks)
    return original if callable(original) and not has_hooks else forward


@contextmanager
def compiled_models_run_eagerly() -> Iterator[None]:
    """A context in which ``torch.compile``d functions run their original code.

    The compiler's stance is global to the process: the first thread that enters sets it, and the
    last thread that leaves restores the user's stance.
    """
    global _running, _stance
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import takes seconds
        yield
        return
    with _lock:
        _running += 1
        if _running == 1:
            _stance = torch.compiler.set_stance("force_eager")
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                _stance.__exit__(None, None, None)
