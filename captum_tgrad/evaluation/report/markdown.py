"""A report as Markdown, and the parts that it shares with a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from captum_tgrad._support.printable import in_markdown
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.evaluation.report.table import table_of
from captum_tgrad.evaluation.storage.protocol import CHECKSUMS, flattened
from captum_tgrad.visualization.html_report import Report

_NUMBERS = re.compile(r"[-+\d.e]*( \[[-+\d.e]+, [-+\d.e]+\])?( \(\d+\))?")


class Markdown:
    """The methods of ``Report``, without figures; they escape what they are given."""

    def __init__(self, title: str, summary: str) -> None:
        self._parts = [f"# {in_markdown(title)}", in_markdown(summary)]

    def section(self, title: str) -> None:
        """Begins a section."""
        self._parts.append(f"## {in_markdown(title)}")

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self._parts.append(in_markdown(text))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        caption: str = "",
        best: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Adds a table, the best numbers in bold; the caption is for other formats."""
        lines = [_line(columns), "|---" * len(columns) + "|"]
        for number, row in enumerate(rows):
            numbers = [cell if _NUMBERS.fullmatch(cell) else in_markdown(cell) for cell in row[1:]]
            bold = ["**" * (number in (best or {}).get(title, ())) for title in columns]
            cells = zip(bold, [in_markdown(row[0]), *numbers], strict=True)
            lines.append(_line([f"{mark}{cell}{mark}" for mark, cell in cells]))
        self._parts.append("\n".join(lines))

    def protocol(self, protocol: Mapping[str, Any]) -> None:
        """Adds how numbers were computed, without methods that have no settings."""
        self.items(f"{name}: {value}" for name, value in flattened(protocol).items())

    def items(self, items: Iterable[str]) -> None:
        """Adds a list."""
        self._parts.append("\n".join(f"- {in_markdown(item)}" for item in items))

    def content(self) -> str:
        """The whole text."""
        return "\n\n".join(self._parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def add_protocol(report: Report | Markdown, protocol: Mapping[str, Any]) -> None:
    """Adds how the numbers were computed, without checksums, which only a program compares."""
    report.section("Protocol")
    report.protocol({name: each for name, each in protocol.items() if name not in CHECKSUMS})
    if words := [words for name, words in CHECKSUMS.items() if name in protocol]:
        report.text(f"The protocol in the summary also has checksums of: {', '.join(words)}.")


def add_table(report: Report | Markdown, summary: Summary, part: str | None = None) -> None:
    """Adds the table of a summary to a report, as ``table_of`` makes it."""
    table = table_of(summary, part)
    caption = "" if part else "The best mean of each metric is bold"
    report.table(table.headings, table.rows, caption, table.best)
