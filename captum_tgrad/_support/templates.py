"""Text templates of a package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template


@cache
def read_text(package: str, path: str) -> str:
    """A text file of a package; its path has slashes."""
    return files(package).joinpath(path).read_text(encoding="utf-8")


def filled(package: str, path: str, **values: str) -> str:
    """Fills in a ``string.Template`` of a package; ``values`` must be escaped."""
    return Template(read_text(package, path)).substitute(values)
