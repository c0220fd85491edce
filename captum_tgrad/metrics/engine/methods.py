"""Arguments and results of one method, or of several by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

Result = TypeVar("Result")


def methods_of(given: Any, argument: str = "attributions") -> dict[str, Any]:
    """The argument of each method, by its name in messages."""
    if not isinstance(given, Mapping):
        return {argument: given}
    if not given:
        raise ValueError(f"{argument} is an empty dict. Pass at least one method.")
    return {f"{argument}[{name!r}]": each for name, each in given.items()}


def by_name(given: Any, results: Sequence[Result]) -> Result | dict[str, Result]:
    """The single result, or the results by name if the argument was a dict."""
    return dict(zip(given, results, strict=True)) if isinstance(given, Mapping) else results[0]
