"""The HTML templates in the folder ``templates``, in the language of Jinja."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from captum_tgrad._support.printable import printable_lines

_PACKAGE = "captum_tgrad.visualization"
_ENVIRONMENT = Environment(
    loader=PackageLoader(_PACKAGE),
    autoescape=True,
    finalize=lambda value: value if hasattr(value, "__html__") else printable_lines(value),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}


def render(name: str, **values: Any) -> str:
    """Renders a template; values are escaped, except ``{{ value|safe }}``."""
    return _ENVIRONMENT.get_template(name).render(values)


@cache
def source(name: str) -> str:
    """The text of a style sheet or a script among the templates."""
    return files(_PACKAGE).joinpath("templates", name).read_text(encoding="utf-8")
