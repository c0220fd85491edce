"""Compiled models run eagerly while they are followed: a compiled graph shows no operation."""

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
    """The module that ``torch.compile`` wrapped, or ``forward`` itself."""
    original = getattr(forward, "_orig_mod", forward)
    return original if callable(original) else forward


@contextmanager
def compiled_models_run_eagerly() -> Iterator[None]:
    """In this context ``torch.compile``d functions run the code they were compiled from.

    The compiler's stance is one for the whole process: the first thread that enters sets it, and
    the last one that leaves puts the user's back.
    """
    global _running, _stance
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and importing it takes seconds
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
            if _running == 0 and _stance is not None:
                _stance.__exit__(None, None, None)
                _stance = None
