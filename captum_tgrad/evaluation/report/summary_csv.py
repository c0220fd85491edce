"""The numbers of a summary as CSV."""

from __future__ import annotations

import csv
import io

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.summary import COLUMNS, Summary
from captum_tgrad.metrics.registry import HIGHER_IS_BETTER

_NUMBERS = ("images", "mean", "low", "high")
_HEADINGS = (
    "method",
    "title",
    "metric",
    "higher_is_better",
    *_NUMBERS,
    *(f"minus_t_grad_{name}" for name in _NUMBERS),
)


def as_csv(summary: Summary) -> str:
    """A header, and a line for each method and number, with interval and difference to T-Grad.

    Unknown values are empty; a method without records has no line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADINGS)
    for name, each in summary["methods"].items():
        for column in COLUMNS:
            if column not in each:
                continue
            own, other = each[column], (each["minus_t_grad"] or {}).get(column, {})
            numbers = [cells.get(key) for cells in (own, other) for key in _NUMBERS]
            better = HIGHER_IS_BETTER.get(column, False)  # of the seconds
            writer.writerow([*map(printable, (name, each["title"])), column, better, *numbers])
    return text.getvalue()
