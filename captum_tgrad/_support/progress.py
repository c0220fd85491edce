"""Progress bars whose clock goes on while nothing is done yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from captum_tgrad._support.printable import printable

_SECONDS = 1.0


class Bar:
    """A progress bar in units of work, whatever these are."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def update(self, done: int) -> None:
        """So many units more are done."""
        self._bar.update(done)

    def say(self, text: str) -> None:
        """Says what is being done."""
        self._bar.set_postfix_str(printable(text))

    def write(self, text: str) -> None:
        """Prints lines above the bar."""
        self._bar.write(text)

    def extend(self, total: int) -> None:
        """Gives the bar its number of units, where that is found out later."""
        self._bar.total = total


@contextmanager
def progress_bar(total: int | None, show: bool | None, delay: float = 0.0) -> Iterator[Bar]:
    """A context with a bar of the share that is done, the time so far and the time left.

    It is drawn again every second, so that it is seen to live during what takes long.

    Args:
        total: The number of units.
        show: Whether it is shown; None: on a terminal.
        delay: Seconds before it is shown: one that is gone before it can be read only flickers.
    """
    from tqdm import tqdm

    bar = tqdm(
        total=total,
        disable=None if show is None else not show,
        delay=delay,
        smoothing=0,  # The time left from the mean so far.
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
