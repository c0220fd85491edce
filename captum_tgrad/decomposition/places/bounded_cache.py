"""A cache with a bounded size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")

_MOST = 2**24  # the most numbers in all entries together, 128 MB
_OF_AN_ENTRY = 512  # its key and its objects in memory, 4 KB as measured, counted as numbers


class BoundedCache(Generic[Value]):
    """A cache that is cleared when it holds too many numbers.

    Args:
        numbers: Returns how many numbers a value holds.
    """

    def __init__(self, numbers: Callable[[Value], int]) -> None:
        self._numbers = numbers
        self._held = 0
        self._values: dict[object, Value] = {}

    def get(self, key: object) -> Value | None:
        """The value of a key; None if there is none."""
        return self._values.get(key)

    def get_or(self, key: object, compute: Callable[[], Value]) -> Value:
        """The value of a key, which is computed and stored if there is none."""
        value = self._values.get(key)
        if value is None:
            value = compute()
            self.put(key, value)
        return value

    def put(self, key: object, value: Value) -> None:
        """Stores a value."""
        size = self._numbers(value) + _OF_AN_ENTRY
        self._held += size
        if self._held > _MOST:
            self._values.clear()
            self._held = size
        self._values[key] = value
