"""A report as Markdown, and the parts that several reports have."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from captum_tgrad._support.printable import in_markdown
from captum_tgrad.evaluation.report.summary import Summary
from captum_tgrad.evaluation.report.table import table_of
from captum_tgrad.evaluation.storage.protocol import CHECKSUMS, flattened
from captum_tgrad.visualization.html_report import Report

_NUMBERS = re.compile(r"[-+\d.e]*( \[[-+\d.e]+, [-+\d.e]+\])?( \(\d+\))?")


def markdown(report: Report) -> str:
    """A report without figures as Markdown; everything is escaped."""
    blocks = [f"# {in_markdown(report.title)}", in_markdown(report.summary)]
    for part in report.parts:
        if part["kind"] == "section":
            blocks.append(f"## {in_markdown(part['title'])}")
        elif part["kind"] == "text":
            blocks.append(in_markdown(part["text"]))
        elif part["kind"] == "table":
            blocks.append(_table(part["columns"], part["rows"], part["best"]))
        elif part["kind"] == "protocol":
            entries = [f"{key}: {value}" for key, value in flattened(part["protocol"]).items()]
            blocks.append("\n".join(f"- {in_markdown(entry)}" for entry in entries))
    return "\n\n".join(blocks) + "\n"


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], best: Mapping[str, Sequence[int]]
) -> str:
    """A table with the best numbers in bold; numbers are not escaped."""
    lines = [_line(columns), "|---" * len(columns) + "|"]
    for number, row in enumerate(rows):
        numbers = [cell if _NUMBERS.fullmatch(cell) else in_markdown(cell) for cell in row[1:]]
        bold = ["**" * (number in best.get(title, ())) for title in columns]
        cells = zip(bold, [in_markdown(row[0]), *numbers], strict=True)
        lines.append(_line([f"{mark}{cell}{mark}" for mark, cell in cells]))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def add_protocol(report: Report, protocol: Mapping[str, Any]) -> None:
    """Adds how the numbers were computed, without checksums, which only a program compares."""
    report.section("Protocol")
    report.protocol({name: each for name, each in protocol.items() if name not in CHECKSUMS})
    if words := [words for name, words in CHECKSUMS.items() if name in protocol]:
        report.text(f"The protocol in the summary also has checksums of: {', '.join(words)}.")


def add_table(report: Report, summary: Summary, part: str | None = None) -> None:
    """Adds the table of a summary to a report, as ``table_of`` makes it."""
    table = table_of(summary, part)
    caption = "" if part else "The best mean of each metric is bold"
    report.table(table.headings, table.rows, caption, table.best)
