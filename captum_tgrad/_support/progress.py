"""Progress bars whose clock keeps running during long steps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from captum_tgrad._support.printable import printable

_SECONDS = 1.0


class Bar(tqdm):  # type: ignore[misc]
    """A progress bar of tqdm that also shows the current step."""

    def show(self, text: str) -> None:
        """Shows the current step; control characters are escaped."""
        self.set_postfix_str(printable(text))


@contextmanager
def progress_bar(total: int | None, show: bool | None, delay: float = 0.0) -> Iterator[Bar]:
    """A context with a progress bar that shows the elapsed and the remaining time.

    It is redrawn every second, also during long steps. If ``show`` is None, it is shown on a
    terminal only. It appears after ``delay`` seconds, so that short runs do not flicker.
    """
    bar = Bar(
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
            yield bar
        finally:
            ended.set()
            if ticking.is_alive():
                ticking.join()
