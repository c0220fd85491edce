"""Writes the results of an evaluation: a summary, a table, figures and a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.page import markdown, page
from captum_tgrad.evaluation.report.shown_images import ChosenImage, ImageShow
from captum_tgrad.evaluation.report.summary import COLUMNS, Summary, summarize
from captum_tgrad.evaluation.storage.files import as_json, csv_text, png, write_files
from captum_tgrad.evaluation.storage.folder import Output
from captum_tgrad.evaluation.storage.owner import REPORT
from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure

_NUMBERS = ("images", "mean", "low", "high")
_HEADINGS = (
    "method",
    "title",
    "metric",
    "higher_is_better",
    *_NUMBERS,
    *(f"minus_t_grad_{name}" for name in _NUMBERS),
)


def write_results(output: Output, images: ImageShow | None) -> tuple[Summary, str]:
    """Summarizes all records, and writes ``summary.json``, ``summary.csv`` and ``table.md``.

    If ``images`` is not None, it also writes ``metrics.png``, ``seconds.png`` and ``report.html``
    with these images. Returns the summary and the table.
    """
    records, titles = output.records(), output.titles()
    summary = summarize(records, output.skipped(), titles, output.protocol())
    table = markdown(summary)
    texts = {"summary.json": as_json(summary), "table.md": table, "summary.csv": as_csv(summary)}
    write_files(output.path, texts)
    if images is not None and any(each["images"] for each in summary["methods"].values()):
        write_files(output.path, _drawn(summary, images.draw(records, titles)))
    return summary, table


def _drawn(
    summary: Summary, images: Iterable[tuple[ChosenImage, Figure]]
) -> dict[str, str | bytes]:
    """The figures and the page by file name."""
    protocol = "; ".join(f"{key}: {value}" for key, value in summary["protocol"].items())
    description = {"Description": printable(protocol)}
    figures = {"metrics": metrics_figure(summary), "seconds": seconds_figure(summary)}
    report = page(summary, figures, images)
    drawn = {f"{name}.png": png(figure, metadata=description) for name, figure in figures.items()}
    return {**drawn, REPORT: report.html()}


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
