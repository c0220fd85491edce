"""A comparison on one picture as figures, a table and a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from captum_tgrad.evaluation.compare import Compared, Comparison
from captum_tgrad.evaluation.report.table import heading
from captum_tgrad.metrics import HIGHER_IS_BETTER
from captum_tgrad.visualization.curve_figures import curves_figure
from captum_tgrad.visualization.explanation_figures import explanation_figure
from captum_tgrad.visualization.html_report import Report
from captum_tgrad.visualization.method_figures import methods_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILES = ("methods.png", "curves.png", "table.md", "report.html")
"""What a comparison writes."""

_DOTS_PER_INCH = 120
_SHOWN_ON_THE_WAY = 4
_REFERENCE = "t_grad"
_FRACTIONS = ("insertion", "deletion", "difference")
_MAPS = "Each map has a scale of its own: what counts is where it is strong, not how strong it is."
_CURVES = (
    "Insertion puts the most important pixels back into a blurred picture first, deletion blurs"
    " them first. Below the charts: T-Grad and the methods with the largest difference of the two"
    " areas, with the probability under each picture."
)


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes ``methods.png``, ``curves.png``, ``table.md`` and ``report.html``.

    Args:
        comparison: As from ``compare``.
        folder: Is made if it is not there; files of these names are written over.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in FILES]
    figures = {"methods": draw_methods(comparison), "curves": draw_curves(comparison)}
    figures["methods"].savefig(paths[0], dpi=_DOTS_PER_INCH)
    figures["curves"].savefig(paths[1], dpi=_DOTS_PER_INCH)
    paths[2].write_text(markdown(comparison), encoding="utf-8")
    page(comparison, figures).write(paths[3])
    return paths


def draw_methods(comparison: Comparison) -> Figure:
    """The map of every method over the picture."""
    maps = {each.title: each.map for each in comparison.methods.values()}
    return methods_figure(comparison.image, maps, title=_title(comparison))


def draw_curves(comparison: Comparison) -> Figure:
    """The curves of all methods, and what the network saw on those of T-Grad and the best."""
    first = [name for name in comparison.methods if name == _REFERENCE]
    others = sorted(
        (name for name in comparison.methods if name != _REFERENCE),
        key=lambda name: float(comparison.methods[name].curves.difference),
        reverse=True,
    )
    shown = [comparison.methods[name] for name in [*first, *others][:_SHOWN_ON_THE_WAY]]
    return curves_figure(
        {each.title: each.curves for each in comparison.methods.values()},
        inputs=comparison.inputs,
        attributions={each.title: each.map for each in shown},
        title=_title(comparison),
        mean=comparison.mean,
        std=comparison.std,
    )


def markdown(comparison: Comparison) -> str:
    """The table, the protocol, and what there is to know, as a page of Markdown."""
    headings, rows, best = _cells(comparison)
    lines = [f"# {len(rows)} methods on one picture", "", _summary(comparison), ""]
    lines += [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|"]
    for number, row in enumerate(rows):
        marked = [
            f"**{cell}**" if number in best.get(heading, ()) else cell
            for heading, cell in zip(headings, row, strict=True)
        ]
        lines.append(f"| {' | '.join(marked)} |")
    for title, reason in comparison.skipped.items():
        lines += ["", f"{title} could not run: {reason}"]
    lines += ["", *(f"{note}\n" for note in comparison.notes)]
    lines += ["## Protocol", ""]
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in comparison.protocol.items()]
    return "\n".join(lines) + "\n"


def page(comparison: Comparison, figures: Mapping[str, Figure]) -> Report:
    """Everything in one page.

    Args:
        comparison: As from ``compare``.
        figures: ``"methods"`` and ``"curves"``.
    """
    report = Report(f"{len(comparison.methods)} methods on one picture", _summary(comparison))
    headings, rows, best = _cells(comparison)
    report.section("Maps")
    reference = comparison.methods.get(_REFERENCE)
    if reference is not None:
        report.figure(
            _draw_reference(comparison, reference),
            f"The picture, the T-Grad map for {comparison.class_name}, and the map over the"
            " picture.",
        )
    titles = ", ".join(row[0] for row in rows)
    report.figure(
        figures["methods"], f"The picture, and over it in gray the maps of {titles}.", _MAPS
    )
    report.section("Insertion and deletion")
    report.figure(
        figures["curves"],
        f"Two charts of the probability of {comparison.class_name} against the share of pixels"
        " inserted and deleted, a line for each method; below, what the network saw at 10, 25 and"
        " 50% of the pixels. The areas are in the table.",
        _CURVES,
    )
    report.section("Metrics")
    report.table(headings, rows, "An arrow points to better; the best of each metric is bold", best)
    for title, reason in comparison.skipped.items():
        report.text(f"{title} could not run: {reason}")
    for note in comparison.notes:
        report.text(note)
    report.section("Protocol")
    report.protocol(comparison.protocol)
    return report


def _draw_reference(comparison: Comparison, reference: Compared) -> Figure:
    return explanation_figure(
        comparison.image,
        reference.map,
        class_name=f"{comparison.class_name} ({comparison.target})",
        probability=comparison.probability,
        residual=reference.residual,
    )


def _title(comparison: Comparison) -> str:
    return (
        f"{comparison.class_name} ({comparison.target}), probability {comparison.probability:.1%}"
    )


def _summary(comparison: Comparison) -> str:
    return (
        f"{comparison.model} explained for the class {_title(comparison)}. One picture says little"
        " about which method is better: captum-tgrad evaluate compares them on many."
    )


def _cells(comparison: Comparison) -> tuple[list[str], list[list[str]], dict[str, list[int]]]:
    """The headings, the rows, and for each heading which rows are the best."""
    numbers = [_numbers(each) for each in comparison.methods.values()]
    best = {}
    for key in HIGHER_IS_BETTER.keys() & numbers[0].keys():
        values = [row[key] for row in numbers]
        winner = max(values) if HIGHER_IS_BETTER[key] else min(values)
        winners = [number for number, value in enumerate(values) if value == winner]
        # Where all are alike, none stands out.
        best[_heading(key)] = winners if len(winners) < len(values) else []
    rows = [
        [each.title, *(_cell(key, value) for key, value in row.items())]
        for each, row in zip(comparison.methods.values(), numbers, strict=True)
    ]
    return ["Method", *map(_heading, numbers[0])], rows, best


def _cell(key: str, value: float) -> str:
    return f"{value:.3f}" if key in _FRACTIONS else f"{value:#.3g}".rstrip(".")


def _numbers(compared: Compared) -> dict[str, float]:
    return {
        **{key: float(getattr(compared.curves, key)) for key in _FRACTIONS},
        "average_drop": compared.average_drop,
        "increase_in_confidence": compared.increase_in_confidence,
        "seconds": compared.seconds,
    }


def _heading(key: str) -> str:
    if key == "seconds":
        return "Seconds\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}"
    # A space that does not let the arrow fall onto a line of its own.
    return "\N{NO-BREAK SPACE}".join(heading(key).rsplit(" ", 1))
