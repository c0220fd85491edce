"""Imports the names of a package on first use."""

from importlib import import_module

# As in typing, which ``captum_tgrad/__init__.py`` must not import: it says why.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


def lazy(
    package: str, homes: "Mapping[str, str]", submodules: "Iterable[str]" = ()
) -> "tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]":
    """The ``__getattr__``, the ``__dir__`` and the ``__all__`` of a package.

    Args:
        package: Its name.
        homes: The module of each public name, relative to the package.
        submodules: Public modules and packages in it.
    """
    known = {*submodules}

    def get(name: str) -> "Any":
        if name in homes:
            return getattr(import_module(f"{package}.{homes[name]}"), name)
        if name in known:
            return import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def public() -> list[str]:
        return sorted({*homes, *known})

    return get, public, list(homes)
