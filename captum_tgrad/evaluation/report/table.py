"""The numbers of a summary as a table of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.metrics.registry import ALL_NUMBERS


def title_of(summary: Summary) -> str:
    """How many methods on how many images."""
    methods, images = len(summary["methods"]), summary["images"]
    return f"{methods} method{'s' * (methods != 1)} on {images} image{'s' * (images != 1)}"


def heading(column: str) -> str:
    """The heading of a column, with an arrow in the better direction."""
    if column == "seconds":
        return "Seconds per image \N{DOWNWARDS ARROW}"
    number = ALL_NUMBERS[column]
    arrow = "\N{UPWARDS ARROW}" if number.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{number.title} {arrow}"


@dataclass(frozen=True)
class Table:
    """The numbers of the methods as text.

    Attributes:
        headings: The headings of the columns.
        rows: The cells of each method, its title first.
        best: For each heading, the numbers of the rows with the best mean.
    """

    headings: list[str]
    rows: list[list[str]]
    best: dict[str, list[int]]


def table_of(summary: Summary, part: str | None = None, *, brief: bool = False) -> Table:
    """The table of a summary.

    Args:
        summary: As from ``summarize``.
        part: ``"minus_t_grad"`` for the differences to T-Grad; None for the numbers themselves.
        brief: No intervals or reasons, and image counts only if methods differ.
    """
    shown = [each for each in summary["methods"].values() if part is None or each[part]]
    columns = [*summary["higher_is_better"], "seconds"]
    counts = {each["images"] for each in shown}
    counted = summary["images"] > 1 and (not brief or len(counts) > 1)
    return Table(
        ["Method", *map(heading, columns), *(["Images"] if counted else [])],
        [_row(each, part, columns, brief)[: None if counted else -1] for each in shown],
        {}
        if part
        else {heading(name): _best(shown, name) for name in columns if name in ALL_NUMBERS},
    )


def _row(
    each: Mapping[str, Any], part: str | None, columns: Sequence[str], brief: bool
) -> list[str]:
    cells = each if part is None else each[part]
    if not each["images"]:
        reason = "-" if brief else one_line(each["reason"] or "not evaluated")
        return [each["title"], reason, *["-" if brief else ""] * (len(columns) - 1), "0"]
    # Differences count the images that both methods have.
    images = max(cells[column]["images"] for column in columns) if part else each["images"]
    numbers = [
        _cell(cells[column], part is not None, brief)
        + (f" ({count})" if 0 < (count := cells[column]["images"]) < images else "")
        for column in columns
    ]
    return [each["title"], *numbers, str(images)]


def _best(shown: list[Mapping[str, Any]], column: str) -> list[int]:
    """The indices of the rows with the best mean; none if all are equal or images differ."""
    cells = {number: each[column] for number, each in enumerate(shown) if each["images"]}
    means = {n: cell["mean"] for n, cell in cells.items() if cell["mean"] is not None}
    counts = {cells[number]["images"] for number in means}
    if len(set(means.values())) < 2 or len(counts) > 1:
        return []
    best = (max if ALL_NUMBERS[column].higher_is_better else min)(means.values())
    return [number for number, mean in means.items() if mean == best]


def _cell(cell: Mapping[str, Any], signed: bool, brief: bool) -> str:
    if cell["mean"] is None:
        return "-"
    mean, *ends = (
        format(cell[key], f"{'+' if signed else ''}#.3g").rstrip(".")
        for key in ("mean", "low", "high")
        if key in cell
    )
    return f"{mean} [{', '.join(ends)}]" if ends and not brief and cell["images"] > 1 else mean


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())
