"""Turns the progress bars of the ``grad-cam`` package off."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

_PACKAGE = "pytorch_grad_cam."

_lock = threading.Lock()
_replaced: list[tuple[ModuleType, Any]] = []
_users = 0


def _no_bar(iterable: Iterable[Any], *arguments: Any, **options: Any) -> Iterable[Any]:
    return iterable


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """A context in which the ``grad-cam`` package draws no progress bars; others are still drawn.

    The package has no option for that. The name ``tqdm`` in its modules is replaced until the last
    thread leaves the context.
    """
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _replace()
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for module, tqdm in _replaced:
                    module.tqdm = tqdm  # type: ignore[attr-defined]
                _replaced.clear()


def _replace() -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith(_PACKAGE) and isinstance(getattr(module, "tqdm", None), ModuleType):
            _replaced.append((module, module.tqdm))
            module.tqdm = SimpleNamespace(tqdm=_no_bar)  # type: ignore[attr-defined]
