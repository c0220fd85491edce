"""Resolves the index or name of a class."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral

# The most suggestions in a message.
_SUGGESTIONS = 5


def resolve_target(target: int | str, class_names: Sequence[str]) -> int:
    """Resolves the index or name of a class to an index.

    Args:
        target: An index, also as a string, or a name. Digits are always an index. Case, underscores
            and extra spaces in names are ignored, unless two names differ only in these.
        class_names: One name for each class.

    Returns:
        An index into ``class_names``.

    Raises:
        TypeError: ``target`` is neither an integer nor a string.
        ValueError: The class is unknown (the message suggests similar names) or ambiguous.

    Example:
        >>> resolve_target("Espresso", ["cup", "espresso"])
        1
        >>> resolve_target("0", ["cup", "espresso"])
        0
    """
    if isinstance(target, bool) or not isinstance(target, (Integral, str)):
        raise TypeError(
            f"target must be the index or the name of a class, not {type(target).__name__}"
        )
    if isinstance(target, Integral) or target.strip().removeprefix("-").isdecimal():
        if not 0 <= int(target) < len(class_names):
            raise ValueError(
                f"class {int(target)} not found: pass a number from 0 to {len(class_names) - 1}"
            )
        return int(target)
    same = [index for index, name in enumerate(class_names) if name == target]
    if len(same) != 1:
        wanted = _plain(target)
        same = [index for index, name in enumerate(class_names) if _plain(name) == wanted]
    if len(same) == 1:
        return same[0]
    if same:
        choices = ", ".join(f"{index} ({class_names[index]})" for index in same)
        raise ValueError(f"class {target!r} could be any of {choices}: pass the number")
    raise ValueError(f"class {target!r} not found: {_advice(target, class_names)}")


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _advice(target: str, class_names: Sequence[str]) -> str:
    """Suggests classes: first those that contain the words, then similar ones."""
    index_of = {_plain(name): index for index, name in enumerate(class_names)}
    wanted = _plain(target)
    near = [name for name in index_of if wanted and f" {wanted} " in f" {name} "]
    near += difflib.get_close_matches(wanted, index_of, n=_SUGGESTIONS)
    if not near:
        return f"pass its name or a number from 0 to {len(class_names) - 1}"
    choices = [f"{class_names[index_of[name]]} ({index_of[name]})" for name in dict.fromkeys(near)]
    return f"did you mean {' or '.join(choices[:_SUGGESTIONS])}?"
