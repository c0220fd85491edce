"""A table as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.table import Table

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
