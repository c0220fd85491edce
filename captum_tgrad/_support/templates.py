"""HTML templates of a package, in the language of Jinja."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from captum_tgrad._support.printable import printable_lines


@cache
def _environment(package: str) -> Environment:
    """The files in the folder ``templates`` of a package."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=lambda value: value if hasattr(value, "__html__") else printable_lines(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def render(package: str, name: str, **values: Any) -> str:
    """Renders a template; values are escaped, except ``{{ value|safe }}``."""
    return _environment(package).get_template(name).render(values)


@cache
def source(package: str, name: str) -> str:
    """The text of a style sheet or a script among the templates."""
    return files(package).joinpath("templates", name).read_text(encoding="utf-8")
