"""A table as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

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
    names = [textwrap.shorten(name, _NAME_LETTERS, placeholder="...") for name in names]
    first = max(map(len, names))
    blocks: list[list[list[str]]] = [[]]
    room = width - first
    for column in numbers:
        needed = len(_GAP) + max(map(len, column))
        if needed > room and blocks[-1]:
            blocks.append([])
            room = width - first
        blocks[-1].append(column)
        room -= needed
    return "\n\n".join("\n".join(_lines(names, block)) for block in blocks)


def _columns(table: Table) -> Iterator[list[str]]:
    """The cells of each column below its heading, with headings of equal height."""
    headings = [textwrap.wrap(heading, _HEADING_LETTERS) for heading in table.headings]
    height = max(map(len, headings))
    for number, lines in enumerate(headings):
        best = table.best.get(table.headings[number], ())
        marks = ["*" if row in best else " " * bool(best) for row in range(len(table.rows))]
        cells = [printable(row[number]) + mark for row, mark in zip(table.rows, marks, strict=True)]
        yield [*[""] * (height - len(lines)), *lines, *cells]


def _lines(names: Sequence[str], columns: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in zip(names, *columns, strict=True):
        padded = [
            cell.rjust(max(map(len, column)))
            for cell, column in zip(cells[1:], columns, strict=True)
        ]
        yield _GAP.join([cells[0].ljust(max(map(len, names))), *padded]).rstrip()
