"""Writes the results of an evaluation: a summary, a table, figures and a page."""

from __future__ import annotations

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.files import png, write_files
from captum_tgrad.evaluation.report.page import markdown, page
from captum_tgrad.evaluation.report.shown_images import ImageShow
from captum_tgrad.evaluation.report.summary import Summary, summarize
from captum_tgrad.evaluation.report.summary_csv import as_csv
from captum_tgrad.evaluation.storage.folder import Output
from captum_tgrad.evaluation.storage.owner import REPORT
from captum_tgrad.evaluation.storage.records import as_json, write_whole
from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure

_DOTS_PER_INCH = 150


def write_results(output: Output, images: ImageShow | None) -> tuple[Summary, str]:
    """Summarizes all records, and writes ``summary.json``, ``summary.csv`` and ``table.md``.

    If ``images`` is not None, it also writes ``metrics.png``, ``seconds.png`` and ``report.html``
    with these images. Returns the summary and the table.
    """
    summary = summarize(output.records(), output.skipped(), output.titles(), output.protocol())
    table = markdown(summary)
    write_whole(output.path / "summary.json", as_json(summary))
    write_whole(output.path / "table.md", table)
    write_whole(output.path / "summary.csv", as_csv(summary))
    if images is not None and any(each["images"] for each in summary["methods"].values()):
        _draw(output, summary, images)
    return summary, table


def _draw(output: Output, summary: Summary, images: ImageShow) -> None:
    protocol = "; ".join(f"{key}: {value}" for key, value in summary["protocol"].items())
    figures = {"metrics": metrics_figure(summary), "seconds": seconds_figure(summary)}
    report = page(summary, figures, images.draw(output.records(), output.titles()))
    description = {"Description": printable(protocol)}
    drawn = {
        f"{name}.png": png(figure, _DOTS_PER_INCH, metadata=description)
        for name, figure in figures.items()
    }
    write_files(output.path, {**drawn, REPORT: report.html()})
