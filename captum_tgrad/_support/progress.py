"""Progress bars whose clock keeps running during long steps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

from captum_tgrad._support.printable import printable

_SECONDS = 1.0


class Bar:
    """A progress bar in arbitrary units of work."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def update(self, done: int) -> None:
        """Adds finished units."""
        self._bar.update(done)

    def show(self, text: str) -> None:
        """Shows the current step."""
        self._bar.set_postfix_str(printable(text))

    def write(self, text: str) -> None:
        """Prints lines above the bar."""
        self._bar.write(text)

    def extend(self, total: int) -> None:
        """Sets the number of units, if it was not known at the start."""
        self._bar.total = total


@contextmanager
def progress_bar(total: int | None, show: bool | None, delay: float = 0.0) -> Iterator[Bar]:
    """A context with a progress bar that shows the elapsed and the remaining time.

    It is redrawn every second, also during long steps. If ``show`` is None, it is shown on a
    terminal only. It appears after ``delay`` seconds, so that short runs do not flicker.
    """
    bar = tqdm(
        total=total,
        disable=None if show is None else not show,
        delay=delay,
        smoothing=0,  # Estimates the remaining time from the mean speed so far.
        bar_format="{l_bar}{bar}| [{elapsed}<{remaining}{postfix}]",
    )
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(_SECONDS):
            if bar.n or not delay:
                bar.refresh()

    ticking = threading.Thread(target=tick, daemon=True)
    with bar:
        if not bar.disable:
            ticking.start()
        try:
            yield Bar(bar)
        finally:
            ended.set()
            if ticking.is_alive():
                ticking.join()
