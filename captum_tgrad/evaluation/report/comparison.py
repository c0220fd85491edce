"""A comparison on one image as figures, a table and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from captum_tgrad._support.writing import write_files
from captum_tgrad.evaluation.compare import Comparison
from captum_tgrad.evaluation.report.markdown import add_protocol, add_table, markdown
from captum_tgrad.evaluation.report.summary import REFERENCE
from captum_tgrad.visualization.curve_figures import curves_figure
from captum_tgrad.visualization.explanation_figures import explanation_figure
from captum_tgrad.visualization.html_report import Report
from captum_tgrad.visualization.method_figures import methods_figure
from captum_tgrad.visualization.notebook_figure import rendered

FILES = ("methods.png", "curves.png", "table.md", "report.html")
"""The files of a comparison."""

_DPI = 120
_METHODS_WITH_IMAGES = 4
_MAPS = "Each map has its own scale: compare positions, not magnitudes."
_CURVES = (
    "Insertion restores the most important pixels of a blurred image first; deletion blurs them"
    " first. Below the charts: T-Grad and the methods with the largest difference of the two"
    " areas, with the probability under each image."
)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Writes ``FILES`` into a folder, which is created if needed."""
    figures = {"methods": draw_methods(comparison), "curves": draw_curves(comparison)}
    report = page(comparison, figures).html()
    drawn = {f"{name}.png": rendered(figure, dpi=_DPI) for name, figure in figures.items()}
    write_files(folder, {"report.html": report, **drawn, "table.md": markdown(page(comparison))})


def draw_methods(comparison: Comparison) -> Figure:
    """The map of every method over the image."""
    maps = {title: comparison.maps[name] for name, title in comparison.titles.items()}
    return methods_figure(comparison.image, maps, title=class_title(comparison))


def draw_curves(comparison: Comparison) -> Figure:
    """The curves of all methods, and the perturbed images for T-Grad and the best methods."""
    titles = comparison.titles
    others = sorted(
        (name for name in titles if name != REFERENCE),
        key=lambda name: float(comparison.curves[name].difference),
        reverse=True,
    )
    shown = [*(name for name in titles if name == REFERENCE), *others][:_METHODS_WITH_IMAGES]
    return curves_figure(
        {title: comparison.curves[name] for name, title in titles.items()},
        inputs=comparison.inputs,
        attributions={titles[name]: comparison.maps[name] for name in shown},
        title=class_title(comparison),
        mean=comparison.mean,
        std=comparison.std,
    )


def page(comparison: Comparison, figures: Mapping[str, Figure] | None = None) -> Report:
    """The table, the notes and the protocol.

    With the figures ``"methods"`` and ``"curves"``, also these and the explanation by T-Grad.
    """
    report = Report(
        f"{len(comparison.titles)} methods on one image",
        f"{comparison.summary['protocol']['model']} explained for the class"
        f" {class_title(comparison)}. One image is too few to rank methods: use"
        " captum-tgrad evaluate to compare them on many.",
        "compare",
    )
    if figures:
        _add_figures(report, comparison, figures)
        report.section("Metrics")
    add_table(report, comparison.summary)
    for note in comparison.notes:
        report.text(note)
    add_protocol(report, comparison.summary["protocol"])
    return report


def _add_figures(report: Report, comparison: Comparison, figures: Mapping[str, Figure]) -> None:
    report.section("Maps")
    if REFERENCE in comparison.maps:
        report.figure(
            explanation_figure(
                comparison.image,
                comparison.maps[REFERENCE],
                class_name=f"{comparison.class_name} ({comparison.target})",
                probability=comparison.probability,
                residual=comparison.records[REFERENCE].get("residual"),
            ),
            f"The image, the T-Grad map for {comparison.class_name}, and the map over the image.",
        )
    titles = ", ".join(comparison.titles.values())
    report.figure(
        figures["methods"], f"The image, and over it in gray the maps of {titles}.", _MAPS
    )
    report.section("Insertion and deletion")
    report.figure(
        figures["curves"],
        f"Two charts of the probability of {comparison.class_name} against the share of pixels"
        " inserted and deleted, one line per method; below, the network's inputs at 10, 25 and 50%"
        " of the pixels. The areas are in the table.",
        _CURVES,
    )


def class_title(comparison: Comparison) -> str:
    """The explained class and its probability."""
    return (
        f"{comparison.class_name} ({comparison.target}), probability {comparison.probability:.1%}"
    )
