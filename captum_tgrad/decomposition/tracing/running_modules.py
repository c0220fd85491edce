"""Tracks which module of the network is running, because terms are named after modules."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle


class RunningModules:
    """A context that tracks the path of the innermost running module.

    It uses global hooks, because ``forward_func`` may call any number of unknown models, and
    ignores other threads. Paths are relative to the outermost module.

    Attributes:
        after_module: Called with the path and the output of every module after it ran, if not None.
        outermost: The modules that ran outside of other modules.
        runs_unnamed: Whether a module ran inside of one that does not name it, as one in a list.

    Raises:
        ValueError: In the context, before a batch norm in training mode runs and updates its
            running statistics.
    """

    def __init__(self) -> None:
        self.after_module: Callable[[str, Any], None] | None = None
        self.outermost: list[nn.Module] = []
        self.runs_unnamed = False
        self._thread = 0
        self._stack: list[tuple[str, nn.Module]] = []
        self._paths: dict[nn.Module, str] = {}
        self._handles: list[RemovableHandle] = []

    @property
    def path(self) -> str:
        """The path of the innermost running module; empty in the outermost one and outside."""
        return self._stack[-1][0] if self._stack else ""

    @property
    def inside_leaf(self) -> bool:
        """Whether the innermost running module has no submodules."""
        return bool(self._stack) and not self._stack[-1][1]._modules

    @property
    def innermost(self) -> nn.Module | None:
        """The innermost running module."""
        return self._stack[-1][1] if self._stack else None

    @property
    def in_evaluation_mode(self) -> bool:
        """Whether no module is in training mode, and none runs that keeps no running statistics."""
        modules = [each for module in self.outermost for each in module.modules()]
        is_norm = isinstance(self.innermost, _BatchNorm)
        return bool(modules) and not is_norm and not any(each.training for each in modules)

    @property
    def next_module(self) -> nn.Module | None:
        """The module that follows the innermost one in the module that contains it."""
        if len(self._stack) < 2:
            return None
        siblings = iter(self._stack[-2][1]._modules.values())
        found = any(module is self._stack[-1][1] for module in siblings)
        return next(siblings, None) if found else None

    def __enter__(self) -> RunningModules:
        self._thread = threading.get_ident()
        self._handles = [
            register_module_forward_pre_hook(self._before_forward),
            register_module_forward_hook(self._after_forward, always_call=True),
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        self._thread = 0  # if an interrupt prevents the removal of hooks, they do nothing
        for handle in self._handles:
            handle.remove()
        self._stack.clear()
        self._paths.clear()

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        if not self._stack:
            self.outermost.append(module)
            self._paths = {child: _without_compiler(name) for name, child in module.named_modules()}
        self.runs_unnamed |= module not in self._paths
        path = self._paths.get(module, type(module).__name__)
        if isinstance(module, _BatchNorm):
            if module.training:
                raise_batch_statistics(path)
        elif isinstance(module, torch.jit.ScriptModule):  # those inside of it have no hooks
            for name, each in module.named_modules():
                if each.original_name in _SCRIPTED_BATCH_NORMS and each.training:
                    raise_batch_statistics(f"{path}.{name}".strip("."))
        self._stack.append((path, module))

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if threading.get_ident() == self._thread and self._stack and self._stack[-1][1] is module:
            path, _ = self._stack.pop()
            if self.after_module is not None:
                self.after_module(path, output)


_SCRIPTED_BATCH_NORMS = {"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"}


def _without_compiler(name: str) -> str:
    """A module's path without the wrappers of ``torch.compile``."""
    if "_orig_mod" not in name:
        return name
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def raise_batch_statistics(path: str) -> None:
    """Raises ValueError for a normalization over the batch, which mixes the samples."""
    raise ValueError(
        f"forward_func normalizes over the batch (batch norm {path!r} is in training mode or keeps"
        " no running statistics), so the map of one sample would depend on the others. Call"
        " model.eval() first; a batch norm needs track_running_stats=True."
    )
