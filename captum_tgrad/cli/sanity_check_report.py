"""The results of ``sanity-check`` as a table, a page, CSV and plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad._support.printable import printable
from captum_tgrad.evaluation.report.files import csv_text
from captum_tgrad.evaluation.report.table import Table
from captum_tgrad.sanity_checks import RandomizationStep
from captum_tgrad.sanity_checks.similarity import Similarity
from captum_tgrad.visualization import Report

_SHOWN = {"spearman": "Rank correlation", "ssim": "SSIM"}
_MEASURES = Similarity._fields
_TRAINED = "(trained)"
_READ = (
    "Each column is the map after a further randomization step, on its own scale. A map that"
    " depends on the learned parameters changes. The curves show the similarity to the map of the"
    " trained network: 1 is identical, 0 unrelated. Curves that stay near 1 mean that the map"
    " reflects the image, not the network."
)
_TABLE = "Mean similarity to the map of the trained network over the images"


def means_table(steps: Sequence[RandomizationStep]) -> Table:
    """The means of the two measures over the images, with a row for each step."""
    rows = [
        [step.layer or _TRAINED, *(_text(_mean(step, name)) for name in _SHOWN)] for step in steps
    ]
    return Table(["Randomized", *_SHOWN.values()], rows, {})


def outcome_of(steps: Sequence[RandomizationStep], full: bool) -> str:
    """What the last step means; ``full``: all layers are random in it."""
    last = _text(_mean(steps[-1], "spearman"))
    found = f"At the last step, the rank correlation with the map of the trained network is {last}."
    if not full:
        return (
            f"{found} Unless all layers are random at that step, this is not the full test: use"
            " --layers blocks or all, and --mode cascading."
        )
    return f"{found} Near 0, the map depends on the learned parameters; near 1, it does not."


def page(
    steps: Sequence[RandomizationStep], figure: Figure, about: str, method: str, full: bool
) -> Report:
    """The figure and the table on a page, with a sentence on how to read them.

    ``about`` names the network and the images, and ``method`` is the title of the method.
    """
    outcome = outcome_of(steps, full)
    title = f"{method} under parameter randomization"
    report = Report(title, f"{about}. {outcome}", "sanity-check")
    report.section("Maps and their similarity")
    layers = ", ".join(str(step.layer) for step in steps[1:])
    report.figure(figure, f"Maps of the trained network, then with {layers} randomized.", _READ)
    report.section("Numbers")
    table = means_table(steps)
    report.table(table.headings, table.rows, _TABLE)
    report.section("Source")
    report.text('Adebayo et al., "Sanity Checks for Saliency Maps", 2018.')
    return report


def as_csv(steps: Sequence[RandomizationStep], images: Sequence[str]) -> str:
    """A line for each step and image."""
    rows: list[Sequence[object]] = [["step", "layer", "image", *_MEASURES]]
    for step in steps:
        for sample, image in enumerate(images):
            values = [float(getattr(step, measure)[sample]) for measure in _MEASURES]
            rows.append([step.index, step.layer or "", printable(image), *values])
    return csv_text(rows)


def as_numbers(steps: Sequence[RandomizationStep], images: Sequence[str]) -> dict[str, Any]:
    """The same as plain dicts and lists; a measure that is undefined is None."""
    return {
        "images": list(images),
        "steps": [
            {
                "layer": step.layer,
                **{name: [*map(_finite, getattr(step, name).tolist())] for name in _MEASURES},
            }
            for step in steps
        ],
    }


def _mean(step: RandomizationStep, measure: str) -> float:
    return float(getattr(step, measure).nanmean())


def _text(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
