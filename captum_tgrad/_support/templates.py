"""Text templates of a package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from string import Template


@cache
def template(package: str, name: str) -> str:
    """A file in the folder ``templates`` of a package."""
    return files(package).joinpath("templates", name).read_text(encoding="utf-8")


def filled(package: str, name: str, **values: str) -> str:
    """Fills in a ``string.Template`` of a package; ``values`` must be escaped."""
    return Template(template(package, name)).substitute(values)
