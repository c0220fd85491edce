"""Tables and figures as the contents of files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import BytesIO, StringIO
from typing import Any

from matplotlib.figure import Figure


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, with the same line ends on every platform."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def png(figure: Figure, dots_per_inch: int = 150, **options: Any) -> bytes:
    """A figure as PNG; ``options`` are those of ``savefig``."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch, **options)
    return drawn.getvalue()
