"""A cache with a bounded size."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")

_MOST = 2**22  # numbers in all entries, each of which counts for some more
_OF_AN_ENTRY = 64


class BoundedCache(Generic[Value]):
    """A cache that is cleared when it holds too many numbers."""

    def __init__(self) -> None:
        self._held = 0
        self._values: dict[object, Value] = {}

    def get(self, key: object) -> Value | None:
        """The value of a key; None if there is none."""
        return self._values.get(key)

    def put(self, key: object, value: Value, numbers: int) -> None:
        """Stores a value that holds ``numbers`` numbers."""
        self._held += numbers + _OF_AN_ENTRY
        if self._held > _MOST:
            self._values.clear()
            self._held = numbers + _OF_AN_ENTRY
        self._values[key] = value
