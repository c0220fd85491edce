"""Text files of a package with places to fill in."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template


@cache
def read_text(package: str, path: str) -> str:
    """A text file of a package.

    Args:
        package: Its full name.
        path: Relative to the package, with slashes.
    """
    return files(package).joinpath(path).read_text(encoding="utf-8")


def filled(package: str, path: str, **values: str) -> str:
    """A template of a package, as ``string.Template`` fills it in; ``values`` are escaped already.

    Raises:
        KeyError: A value is missing.
    """
    return Template(read_text(package, path)).substitute(values)
