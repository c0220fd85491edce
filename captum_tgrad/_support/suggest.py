"""Suggests similar names."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


def few(names: Iterable[str]) -> str:
    """The names of the first modules at the top level of a model."""
    shown = [name for name in names if name and "." not in name]
    return ", ".join(shown[:10]) + (", ..." if len(shown) > 10 else "")


def did_you_mean(
    wanted: object,
    known: Iterable[str],
    otherwise: str = "",
    *,
    show: Callable[[str], str] = str,
    cutoff: float = 0.6,
) -> str:
    """``"did you mean resnet18?"``, or ``otherwise`` if nothing is similar enough.

    ``show`` writes a suggestion.
    """
    near = difflib.get_close_matches(str(wanted), list(known), cutoff=cutoff)
    return f"did you mean {' or '.join(map(show, near))}?" if near else otherwise
