"""Class names of ImageNet, or from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torchvision.models import ResNet50_Weights


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


def names_for(count: int, given: Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
    """The names of classes: those given, else the default if the number fits, else numbered ones.

    Raises TypeError if ``given`` is one string, and ValueError if it has the wrong length.
    """
    if given is None:
        numbered = (f"class {index}" for index in range(count))
        return tuple(default if len(default) == count else numbered)
    if isinstance(given, str):
        raise TypeError("class_names must be a sequence of names, not one string")
    if len(given) != count:
        raise ValueError(
            f"there are {len(given)} class names, but the network has {count} classes: pass one"
            " name for each"
        )
    return tuple(given)
