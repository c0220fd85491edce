"""The numbers of a summary as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.metrics.registry import ALL_NUMBERS


def summary_title(summary: Summary) -> str:
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
    """The numbers of the methods as text."""

    headings: list[str]
    rows: list[list[str]]  # the cells of each method, its title first
    best: dict[str, list[int]]  # by heading, the indices of the rows with the best mean


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


_GAP = "  "
_HEADING_LETTERS = 11
_NAME_LETTERS = 28


def text_table(table: Table, width: int = 100) -> str:
    """Formats a table in lines of at most ``width`` characters; a star marks the best of a column.

    Columns that do not fit follow below, with the names repeated.

    Example:
        >>> table = Table(["Method", "Insertion"], [["A", "0.7"], ["B", "0.5"]], {"Insertion": [0]})
        >>> print(text_table(table))
        Method  Insertion
        A            0.7*
        B            0.5
    """
    names, *numbers = _columns(table)
    short = [textwrap.shorten(name, _NAME_LETTERS, placeholder="...") for name in names]
    names = [name.ljust(max(map(len, short))) for name in short]
    blocks = [[names]]
    for column in numbers:
        cells = [cell.rjust(max(map(len, column))) for cell in column]
        first_line = _GAP.join(each[0] for each in [*blocks[-1], cells])
        if len(first_line) > width and len(blocks[-1]) > 1:
            blocks.append([names])
        blocks[-1].append(cells)
    return "\n\n".join(
        "\n".join(_GAP.join(row).rstrip() for row in zip(*block, strict=True)) for block in blocks
    )


def _columns(table: Table) -> Iterator[list[str]]:
    """The cells of each column below its heading, with headings of equal height."""
    headings = [textwrap.wrap(heading, _HEADING_LETTERS) for heading in table.headings]
    height = max(map(len, headings))
    for number, lines in enumerate(headings):
        best = table.best.get(table.headings[number], ())
        marks = ["*" if row in best else " " * bool(best) for row in range(len(table.rows))]
        cells = [printable(row[number]) + mark for row, mark in zip(table.rows, marks, strict=True)]
        yield [*[""] * (height - len(lines)), *lines, *cells]
