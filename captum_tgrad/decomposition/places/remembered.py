"""What has been computed, for calls of the same form: bounded by the memory that it takes."""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")

_OF_AN_ENTRY = 64


class Remembered(Generic[Value]):
    """A cache that is emptied when it holds too many numbers.

    Args:
        numbers: How many it may hold; each entry counts for some, whatever is in it.
    """

    def __init__(self, numbers: int = 2**22) -> None:
        self._most = numbers
        self._held = 0
        self._values: dict[object, Value] = {}

    def get(self, key: object) -> Value | None:
        """What was put under a key; None if nothing was."""
        return self._values.get(key)

    def put(self, key: object, value: Value, numbers: int) -> None:
        """Remembers a value that holds so many numbers."""
        self._held += numbers + _OF_AN_ENTRY
        if self._held > self._most:
            self._values.clear()
            self._held = numbers + _OF_AN_ENTRY
        self._values[key] = value
