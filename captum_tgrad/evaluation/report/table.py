"""A summary as a page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from captum_tgrad.evaluation.report.summary import COLUMNS, REFERENCE, Summary
from captum_tgrad.evaluation.storage.protocol import protocol_lines
from captum_tgrad.metrics.registry import NUMBERS

_SKIPPED_SHOWN = 20


def markdown(summary: Summary) -> str:
    """The tables of a summary, with the protocol and what was skipped.

    Args:
        summary: As from ``summarize``.

    Returns:
        Markdown.
    """
    methods: Mapping[str, Any] = summary["methods"]
    lines = [
        f"# {len(methods)} methods on {summary['images']} images",
        "",
        f"Means, with intervals: {summary['interval']}. An arrow points to better.",
        "",
        *_table(methods, None),
    ]
    if any(each["minus_t_grad"] for each in methods.values()):
        title = methods[REFERENCE]["title"]
        lines += ["", f"## Differences to {title}", ""]
        lines += [f"The method minus {title}, paired by image. An arrow points to better.", ""]
        lines += _table(methods, "minus_t_grad")
    if advice := _steps_or_images(summary):
        lines += ["", "## Steps or images?", "", advice]
    lines += ["", "## Protocol", ""]
    lines += [f"- {line}" for line in protocol_lines(summary["protocol"])]
    if summary["skipped"]:
        lines += ["", "## Skipped", "", *_skipped(summary["skipped"])]
    return "\n".join(lines) + "\n"


def _steps_or_images(summary: Summary) -> str:
    """Whether more steps or more images would make the table sharper; empty if that is unknown."""
    steps = summary.get("steps")
    cells = [each["difference"] for each in summary["methods"].values() if each["images"]]
    widths = [(cell["high"] - cell["low"]) / 2 for cell in cells if cell["mean"] is not None]
    if not steps or not widths:
        return ""
    width = max(widths)
    what = "steps" if steps["of_a_mean"] > width else "images"
    return (
        f"With every second step left out, Insertion - Deletion of an image changes by"
        f" {steps['of_an_image']:.4f} (root mean square) and the mean of a method by at most"
        f" {steps['of_a_mean']:.4f}. The images leave an interval of +-{width:.3f}. Spend more time"
        f" on {what}."
    )


def columns() -> list[str]:
    """The headings of a table of methods."""
    return ["Method", *map(heading, COLUMNS), "Images"]


def heading(column: str) -> str:
    """The heading of a column, with an arrow that points to better."""
    if column == "seconds":
        return "Seconds per image \N{DOWNWARDS ARROW}"
    number = NUMBERS[column]
    arrow = "\N{UPWARDS ARROW}" if number.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{number.title} {arrow}"


def rows(methods: Mapping[str, Any], part: str | None = None) -> Iterator[list[str]]:
    """The cells under ``columns()`` of each method.

    Args:
        methods: ``methods`` of a summary.
        part: ``"minus_t_grad"`` for the differences to T-Grad; None for the numbers themselves.
    """
    for each in methods.values():
        cells = each if part is None else each[part]
        if part is not None and not cells:
            continue
        if not each["images"]:
            reason = _one_line(each["reason"] or "not evaluated")
            yield [each["title"], reason, *[""] * (len(COLUMNS) - 1), "0"]
            continue
        numbers = [_cell(cells[column], signed=part is not None) for column in COLUMNS]
        # Of differences, the images that both methods have.
        images = max(cells[column]["images"] for column in COLUMNS)
        yield [each["title"], *numbers, str(each["images"] if part is None else images)]


def _table(methods: Mapping[str, Any], part: str | None) -> Iterator[str]:
    yield _line(columns())
    yield "|---" * len(columns()) + "|"
    for row in rows(methods, part):
        yield _line(row)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cell(cell: Mapping[str, Any], signed: bool) -> str:
    if cell["mean"] is None:
        return "-"
    sign = "+" if signed else ""
    mean, low, high = (
        format(cell[key], f"{sign}#.3g").rstrip(".") for key in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]"


def _skipped(skipped: list[dict[str, Any]]) -> Iterator[str]:
    for each in skipped[:_SKIPPED_SHOWN]:
        what = [each[key] for key in ("image", "method") if each[key] is not None]
        yield f"- {', '.join(what)}: {_one_line(each['reason'])}"
    if len(skipped) > _SKIPPED_SHOWN:
        yield f"- and {len(skipped) - _SKIPPED_SHOWN} more, in summary.json"


def _one_line(text: str) -> str:
    return " ".join(text.split())
