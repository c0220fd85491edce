"""Names of classes: those of ImageNet, and those in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the names of the 1000 classes of ImageNet, as torchvision has them."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Reads one name a line; blank lines at the end do not count.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a text file in UTF-8, is empty, or has a blank line between names,
            which would shift every class after it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of class names {path}: give a text file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not a text file in UTF-8: give one class name a line"
        ) from error
    names = tuple(line.strip() for line in text.rstrip().splitlines())
    if not names:
        raise ValueError(
            f"{path} is empty: give one class name a line, in the order of the classes"
        )
    if "" in names:
        raise ValueError(f"{path} has no name on line {names.index('') + 1}: fill it or remove it")
    return names


def names_for(count: int, given: Sequence[str] | None, default: Sequence[str]) -> tuple[str, ...]:
    """Chooses names for the classes of a network.

    Args:
        count: How many classes the network has.
        given: The names that the user gave, or None.
        default: The names of the data set that the network was made for.

    Returns:
        ``given``, else ``default`` where the number fits, else ``"class 0"``, ``"class 1"``, ...

    Raises:
        TypeError: ``given`` is one string.
        ValueError: ``given`` is not of the right length.
    """
    if isinstance(given, str):
        raise TypeError("class_names must be a sequence of names, not one string")
    if given is not None and len(given) != count:
        raise ValueError(
            f"there are {len(given)} class names, but the network has {count} classes: give one"
            " name for each"
        )
    if given is not None:
        return tuple(given)
    if len(default) == count:
        return tuple(default)
    return tuple(f"class {index}" for index in range(count))
