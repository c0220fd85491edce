"""The results of an evaluation as tables, figures and a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad._support.printable import printable
from captum_tgrad._support.writing import as_json, csv_text, write_files
from captum_tgrad.evaluation.methods.built_in import METHODS
from captum_tgrad.evaluation.report.markdown import add_protocol, add_table, markdown
from captum_tgrad.evaluation.report.summary import COLUMNS, REFERENCE, Summary, summarize
from captum_tgrad.evaluation.report.table import one_line, summary_title
from captum_tgrad.evaluation.report.verdict import steps_or_images, verdict
from captum_tgrad.evaluation.storage.files import REPORT
from captum_tgrad.evaluation.storage.folder import read_skipped
from captum_tgrad.evaluation.storage.protocol import read_protocol
from captum_tgrad.evaluation.storage.records import Record
from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure
from captum_tgrad.visualization.html_report import Report
from captum_tgrad.visualization.notebook_figure import rendered

_IMAGES = (
    "The maps of all methods, best first, with their Insertion - Deletion on the image. The maps"
    " were recomputed for this page. Each map has its own scale: compare positions, not magnitudes."
)
_SKIPPED_SHOWN = 20
_NUMBERS = ("images", "mean", "low", "high")
_HEADINGS = (
    "method",
    "title",
    "metric",
    "higher_is_better",
    *_NUMBERS,
    *(f"minus_t_grad_{name}" for name in _NUMBERS),
)


def write_tables(
    folder: Path, records: Sequence[Record], own_titles: Mapping[str, str]
) -> tuple[Summary, str]:
    """Summarizes all records, and writes ``summary.json``, ``summary.csv`` and ``table.md``.

    ``own_titles`` are those of the methods of this run, by name. Returns the summary and the table.
    """
    protocol = read_protocol(folder) or {}
    titles = _titles(protocol.get("methods", {}), own_titles)
    summary = summarize(records, read_skipped(folder), titles, protocol)
    table = markdown(page(summary))
    texts = {"summary.json": as_json(summary), "table.md": table, "summary.csv": as_csv(summary)}
    write_files(folder, texts)
    return summary, table


def write_figures(
    folder: Path, summary: Summary, images: Iterable[tuple[str, str, Figure]]
) -> None:
    """Writes ``metrics.png``, ``seconds.png`` and, with these and the images, ``report.html``."""
    protocol = "; ".join(f"{key}: {value}" for key, value in summary["protocol"].items())
    metadata = {"Description": printable(protocol)}
    figures = {"metrics": metrics_figure(summary), "seconds": seconds_figure(summary)}
    report = page(summary, figures, images).html()
    drawn = {f"{name}.png": rendered(each, metadata=metadata) for name, each in figures.items()}
    write_files(folder, {**drawn, REPORT: report})


def _titles(evaluated: Mapping[str, Any], own_titles: Mapping[str, str]) -> dict[str, str]:
    """The titles of the methods in a protocol, also of earlier runs, in the registry's order."""
    known = {name: method.title for name, method in METHODS.items()} | dict(own_titles)
    titles = {name: title for name, title in known.items() if name in evaluated}
    for name, settings in evaluated.items():
        titles.setdefault(name, str(settings.get("title", name)))
    return titles


def as_csv(summary: Summary) -> str:
    """A header, and a line for each method and number, with interval and difference to T-Grad.

    Unknown values are empty; a method without records has no line.
    """
    rows: list[Sequence[object]] = [_HEADINGS]
    for name, each in summary["methods"].items():
        for column in COLUMNS:
            if column not in each:
                continue
            own, other = each[column], (each["minus_t_grad"] or {}).get(column, {})
            numbers = [cells.get(key) for cells in (own, other) for key in _NUMBERS]
            better = summary["higher_is_better"].get(column, False)  # of the seconds
            rows.append([*map(printable, (name, each["title"])), column, better, *numbers])
    return csv_text(rows)


def page(
    summary: Summary,
    figures: Mapping[str, Figure] | None = None,
    images: Iterable[tuple[str, str, Figure]] = (),
) -> Report:
    """The tables, the protocol and what was skipped.

    With the figures ``"metrics"`` and ``"seconds"``, also these and the images, each with a heading
    and a reason; without them, only the first skipped images.
    """
    introduction = f"Means with intervals: {summary['interval']}. Arrows show the better direction."
    report = Report(summary_title(summary), introduction, "evaluate")
    if figures:
        report.section("Metrics")
        report.figure(
            figures["metrics"],
            "The means of the metrics of every method, with intervals.",
            "Methods with overlapping intervals may still differ significantly: see the paired"
            " differences below.",
        )
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
    if figures:
        report.section("Seconds")
        report.figure(
            figures["seconds"],
            "The seconds per image of every method.",
            "The axis is logarithmic.",
        )
    for number, (heading, reason, figure) in enumerate(images):
        report.section(heading)
        if not number:
            report.text(_IMAGES)
        report.figure(figure, f"{heading}, and over it the maps.", reason)
    add_protocol(report, summary["protocol"])
    if skipped := summary["skipped"]:
        report.section("Skipped")
        shown = skipped if figures else skipped[:_SKIPPED_SHOWN]
        columns = ["image", "method", "reason"]
        report.table(columns, [[one_line(each[key] or "all") for key in columns] for each in shown])
        if more := len(skipped) - len(shown):
            report.text(f"And {more} more, in summary.json.")
    return report
