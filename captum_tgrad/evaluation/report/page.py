"""A summary as an HTML page with figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from captum_tgrad.evaluation.report.shown_images import ShownImage
from captum_tgrad.evaluation.report.summary import REFERENCE, Summary
from captum_tgrad.evaluation.report.table import table_of, title_of
from captum_tgrad.evaluation.report.verdict import verdict
from captum_tgrad.visualization.html_report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_IMAGES = (
    "The maps of all methods, best first, with their Insertion - Deletion on the image. The maps"
    " were recomputed for this page. Each map has its own scale: compare positions, not magnitudes."
)


def page(
    summary: Summary, figures: Mapping[str, Figure], images: Iterable[ShownImage] = ()
) -> Report:
    """The tables and figures of a summary, with the protocol and what was skipped.

    ``figures`` are ``"metrics"`` and ``"seconds"``.
    """
    methods: Mapping[str, Any] = summary["methods"]
    report = Report(
        title_of(summary),
        f"Means with intervals: {summary['interval']}. Arrows show the better direction.",
        "evaluate",
    )
    report.section("Metrics")
    report.figure(
        figures["metrics"],
        "The means of the metrics of every method, with intervals.",
        "Methods with overlapping intervals may still differ significantly: see the paired"
        " differences below.",
    )
    add_table(report, summary)
    report.text(verdict(summary))
    if any(each["minus_t_grad"] for each in methods.values()):
        title = methods[REFERENCE]["title"]
        report.section(f"Differences to {title}")
        report.text(f"The method minus {title}, paired by image.")
        add_table(report, summary, "minus_t_grad")
    report.section("Seconds")
    report.figure(
        figures["seconds"],
        "The seconds per image of every method.",
        "The axis is logarithmic.",
    )
    for number, each in enumerate(images):
        report.section(each.heading)
        if not number:
            report.text(_IMAGES)
        report.figure(each.figure, f"{each.heading}, and over it the maps.", each.caption)
    report.section("Protocol")
    report.protocol(summary["protocol"])
    if summary["skipped"]:
        report.section("Skipped")
        columns = ["image", "method", "reason"]
        report.table(
            columns, [[each[key] or "all" for key in columns] for each in summary["skipped"]]
        )
    return report


def add_table(report: Report, summary: Summary, part: str | None = None) -> None:
    """Adds the table of a summary to a report, as ``table_of`` makes it."""
    table = table_of(summary, part)
    caption = "" if part else "The best mean of each metric is bold"
    report.table(table.headings, table.rows, caption, table.best)
