"""Names in messages: the first of many, and similar ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence


def few(names: Sequence[object], most: int = 10) -> str:
    """The first names, and how many more there are.

    Example:
        >>> few(["conv1", "bn1", "relu"], most=2)
        'conv1, bn1 and 1 more'
    """
    more = f" and {len(names) - most} more" * (len(names) > most)
    return ", ".join(map(str, names[:most])) + more


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
