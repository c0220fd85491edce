"""Warnings that point at the user's code."""

from __future__ import annotations

import sys
import warnings

from captum_tgrad._support.printable import printable_lines

_LIBRARIES = {"captum_tgrad", "captum", "torch"}


def warn_user(message: str) -> None:
    """Issues a UserWarning at the innermost line outside of this package, captum and torch."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _LIBRARIES:
        frame, level = frame.f_back, level + 1
    warnings.warn(printable_lines(message), stacklevel=level)
