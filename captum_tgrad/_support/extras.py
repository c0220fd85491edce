"""Modules that an extra of this package installs."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def import_from_extra(module: str, extra: str) -> Any:
    """Imports a module that only an extra of this package installs.

    Raises:
        ModuleNotFoundError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module that is installed but lacks a dependency of its own raises its own error.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ModuleNotFoundError(
            f'{error.name} is not installed: run pip install ".[{extra}]" in the clone',
            name=error.name,
        ) from error


def is_installed(*modules: str) -> bool:
    """Whether all modules are installed; none is imported."""
    return all(find_spec(module) is not None for module in modules)
