"""The result of ``explain`` as a page and as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad.cli.jobs import Job
from captum_tgrad.explanation import Explanation
from captum_tgrad.visualization import Report

MOST_IMAGES = 50
"""The maximum number of images in a report, which embeds their figures, about 0.1 MB each."""

_MAP = (
    "Bright regions are evidence for the class. Each map has its own scale: compare positions, not"
    " magnitudes."
)
_LAYERS = (
    "Each map is the evidence of one term for the class, on its own scale, with the term's score"
    " above it. The bars are the scores of all terms in forward order: orange bars raise the logit,"
    " violet bars lower it. Large terms often come in pairs that cancel."
)
_SUM = "The logit is the sum of the three parts; the residual is the logit minus all terms"
_TERMS = "The largest terms with their scores and their shares of all positive scores"


def head(report: Report, model: str, images: int) -> None:
    """Sets the title and the summary of a report on this many images."""
    shown = f"; the first {MOST_IMAGES} images are shown" if images > MOST_IMAGES else ""
    count = "1 image" if images == 1 else f"{images} images"
    report.title = f"{count} explained by T-Grad"
    report.summary = f"The network is {model}{shown}."


def add_image(
    report: Report, number: int, job: Job, explanation: Explanation, figures: Mapping[str, Figure]
) -> None:
    """Adds the image at index ``number``, unless the report is full."""
    if number >= MOST_IMAGES:
        return
    target = explanation.target
    report.section(job.title)
    what = f"{target.name} ({target.index}), probability {target.probability:.1%}"
    report.figure(figures["map"], f"The image, the T-Grad map for {what}, and both.", _MAP)
    if "layers" in figures:
        report.figure(figures["layers"], f"The maps of single terms for {what}.", _LAYERS)
    report.table(
        ["class", "probability"],
        [
            [f"{each.name} ({each.index})", f"{each.probability:.1%}"]
            for each in explanation.predictions
        ],
        "The most probable classes",
    )
    parts = {
        "input": f"{explanation.input_score:+.4f}",
        "biases": f"{explanation.bias_score:+.4f}",
        "residual": f"{explanation.residual:+.1e}",
        "logit": f"{explanation.logit:+.4f}",
    }
    report.table([f"part of the logit of {target.name}", "score"], [*parts.items()], _SUM)
    terms = [
        [term.name, f"{term.score:+.4f}", f"{term.share:.1%}"] for term in explanation.largest_terms
    ]
    report.table(["term", "score", "share"], terms, _TERMS)


def numbers_of(job: Job, explanation: Explanation) -> dict[str, Any]:
    """The explanation as plain dicts, lists, strings and numbers."""
    parts = ("logit", "input_score", "bias_score", "residual", "input_share", "bias_share")
    return {
        "image": job.title,
        "model": explanation.model,
        "target": asdict(explanation.target),
        "predictions": [asdict(each) for each in explanation.predictions],
        **{name: getattr(explanation, name) for name in parts},
        "largest_terms": [asdict(each) for each in explanation.largest_terms],
        "cut_away": explanation.cut_away,
        "files": [str(path) for path in job.paths],
    }
