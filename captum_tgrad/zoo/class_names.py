"""Names of classes, and the class that an index or a name means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path

from torchvision.models import ResNet50_Weights

# The most suggestions in a message.
_SUGGESTIONS = 5


def imagenet_class_names() -> tuple[str, ...]:
    """The names of the 1000 ImageNet classes, from torchvision."""
    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Reads one name per line; blank lines at the end do not count.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a text file in UTF-8, is empty, or has a blank line between names,
            which would shift every class after it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"class names {path} not found: pass a text file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text file in UTF-8: write one class name per line"
        ) from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise ValueError(f"{path} is empty: write one class name per line, in class order")
    if "" in names:
        raise ValueError(f"{path} has no name on line {names.index('') + 1}: fill it or remove it")
    return names


def names_for(count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    """The names of classes: those given, else ImageNet's if the number fits, else numbered ones.

    Raises TypeError if ``given`` is one string, and ValueError if it has the wrong length.
    """
    if given is None:
        names = imagenet_class_names()
        return names if len(names) == count else tuple(f"class {index}" for index in range(count))
    check_not_one_name(given)
    if len(given) != count:
        raise ValueError(
            f"got {len(given)} class name{'s' * (len(given) != 1)}, but the network has {count}"
            " classes: pass one name for each"
        )
    return tuple(given)


def check_not_one_name(class_names: Sequence[str]) -> None:
    """Raises TypeError if the names of classes are one string, whose letters would be the names."""
    if isinstance(class_names, str):
        raise TypeError("class_names must be a sequence of names, not one string")


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
