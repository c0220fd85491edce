"""A summary as an HTML page with figures, and as Markdown without them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad._support.printable import in_markdown
from captum_tgrad.evaluation.report.shown_images import ChosenImage
from captum_tgrad.evaluation.report.summary import REFERENCE, Summary
from captum_tgrad.evaluation.report.table import one_line, table_of, title_of
from captum_tgrad.evaluation.report.verdict import steps_or_images, verdict
from captum_tgrad.evaluation.storage.protocol import flattened
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
        lines = [_row(columns), "|---" * len(columns) + "|"]
        for number, row in enumerate(rows):
            numbers = [cell if _NUMBERS.fullmatch(cell) else in_markdown(cell) for cell in row[1:]]
            bold = ["**" * (number in (best or {}).get(title, ())) for title in columns]
            cells = zip(bold, [in_markdown(row[0]), *numbers], strict=True)
            lines.append(_row([f"{mark}{cell}{mark}" for mark, cell in cells]))
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


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


_IMAGES = (
    "The maps of all methods, best first, with their Insertion - Deletion on the image. The maps"
    " were recomputed for this page. Each map has its own scale: compare positions, not magnitudes."
)
_SKIPPED_SHOWN = 20


def markdown(summary: Summary) -> str:
    """The tables of a summary, with the protocol and what was skipped, as Markdown."""
    report = Markdown(title_of(summary), _introduction(summary))
    _add_results(report, summary)
    report.section("Protocol")
    report.protocol(summary["protocol"])
    if skipped := summary["skipped"]:
        report.section("Skipped")
        more = len(skipped) - _SKIPPED_SHOWN
        last = [f"and {more} more, in summary.json"] if more > 0 else []
        report.items([*map(_skipped, skipped[:_SKIPPED_SHOWN]), *last])
    return report.content()


def page(
    summary: Summary,
    figures: Mapping[str, Figure],
    images: Iterable[tuple[ChosenImage, Figure]] = (),
) -> Report:
    """The same with figures, as HTML; ``figures`` are ``"metrics"`` and ``"seconds"``."""
    report = Report(title_of(summary), _introduction(summary), "evaluate")
    report.section("Metrics")
    report.figure(
        figures["metrics"],
        "The means of the metrics of every method, with intervals.",
        "Methods with overlapping intervals may still differ significantly: see the paired"
        " differences below.",
    )
    _add_results(report, summary)
    report.section("Seconds")
    report.figure(
        figures["seconds"],
        "The seconds per image of every method.",
        "The axis is logarithmic.",
    )
    for number, (chosen, figure) in enumerate(images):
        report.section(chosen.heading)
        if not number:
            report.text(_IMAGES)
        report.figure(figure, f"{chosen.heading}, and over it the maps.", chosen.reason)
    report.section("Protocol")
    report.protocol(summary["protocol"])
    if summary["skipped"]:
        report.section("Skipped")
        columns = ["image", "method", "reason"]
        report.table(
            columns, [[each[key] or "all" for key in columns] for each in summary["skipped"]]
        )
    return report


def add_table(report: Report | Markdown, summary: Summary, part: str | None = None) -> None:
    """Adds the table of a summary to a report, as ``table_of`` makes it."""
    table = table_of(summary, part)
    caption = "" if part else "The best mean of each metric is bold"
    report.table(table.headings, table.rows, caption, table.best)


def _introduction(summary: Summary) -> str:
    return f"Means with intervals: {summary['interval']}. Arrows show the better direction."


def _add_results(report: Report | Markdown, summary: Summary) -> None:
    """Adds the tables and what they say."""
    add_table(report, summary)
    report.text(verdict(summary))
    methods: Mapping[str, Any] = summary["methods"]
    if any(each["minus_t_grad"] for each in methods.values()):
        title = methods[REFERENCE]["title"]
        report.section(f"Differences to {title}")
        report.text(f"The method minus {title}, paired by image. Arrows show the better direction.")
        add_table(report, summary, "minus_t_grad")
    if advice := steps_or_images(summary):
        report.section("Steps or images?")
        report.text(advice)


def _skipped(each: Mapping[str, Any]) -> str:
    what = ", ".join(filter(None, (each["image"], each["method"])))
    return f"{what}: {one_line(each['reason'])}"
