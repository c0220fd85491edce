"""A summary as a page of Markdown."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captum_tgrad._support.printable import in_markdown
from captum_tgrad.evaluation.report.summary import COLUMNS, REFERENCE, Summary
from captum_tgrad.evaluation.report.verdict import verdict
from captum_tgrad.evaluation.storage.protocol import protocol_lines
from captum_tgrad.metrics.registry import ALL_NUMBERS, LOCALIZATION_NUMBERS

_SKIPPED_SHOWN = 20
_NUMBERS = re.compile(r"[-+\d.e]*( \[[-+\d.e]+, [-+\d.e]+\])?( \(\d+\))?")


def markdown(summary: Summary) -> str:
    """The tables of a summary, with the protocol and what was skipped."""
    methods: Mapping[str, Any] = summary["methods"]
    lines = [
        f"# {title_of(summary)}",
        "",
        f"Means with intervals: {summary['interval']}. Arrows show the better direction.",
        "",
        *table_of(summary).markdown(),
        "",
        in_markdown(verdict(summary)),
    ]
    if any(each["minus_t_grad"] for each in methods.values()):
        title = in_markdown(methods[REFERENCE]["title"])
        lines += ["", f"## Differences to {title}", ""]
        lines += [
            f"The method minus {title}, paired by image. Arrows show the better direction.",
            "",
        ]
        lines += table_of(summary, "minus_t_grad").markdown()
    if advice := _steps_or_images(summary):
        lines += ["", "## Steps or images?", "", advice]
    lines += ["", "## Protocol", ""]
    lines += [f"- {in_markdown(line)}" for line in protocol_lines(summary["protocol"])]
    if summary["skipped"]:
        lines += ["", "## Skipped", "", *_skipped(summary["skipped"])]
    return "\n".join(lines) + "\n"


def title_of(summary: Summary) -> str:
    """How many methods on how many images."""
    methods, images = len(summary["methods"]), summary["images"]
    return f"{methods} method{'s' * (methods != 1)} on {images} image{'s' * (images != 1)}"


def _steps_or_images(summary: Summary) -> str:
    """Whether more steps or more images would narrow the intervals; empty if unknown."""
    steps = summary.get("steps")
    cells = [each["difference"] for each in summary["methods"].values() if each["images"]]
    widths = [(cell["high"] - cell["low"]) / 2 for cell in cells if cell["mean"] is not None]
    if not steps or not widths or summary["images"] < 2:
        return ""
    width = max(widths)
    what = "steps" if steps["of_a_mean"] > width else "images"
    return (
        f"With half the steps, Insertion - Deletion changes by {steps['of_an_image']:.4f} per image"
        f" (root mean square), and the mean of a method by at most {steps['of_a_mean']:.4f}. The"
        f" intervals over images are +-{width:.3f}. Use more {what} for more precision."
    )


def heading(column: str) -> str:
    """The heading of a column, with an arrow in the better direction."""
    if column == "seconds":
        return "Seconds per image \N{DOWNWARDS ARROW}"
    number = ALL_NUMBERS[column]
    arrow = "\N{UPWARDS ARROW}" if number.higher_is_better else "\N{DOWNWARDS ARROW}"
    return f"{number.title} {arrow}"


@dataclass(frozen=True)
class Table:
    """The numbers of the methods as text.

    Attributes:
        headings: The headings of the columns.
        rows: The cells of each method, its title first.
        best: For each heading, the numbers of the rows with the best mean.
    """

    headings: list[str]
    rows: list[list[str]]
    best: dict[str, list[int]]

    def markdown(self) -> Iterator[str]:
        """The lines of the table in Markdown, the best numbers in bold."""
        yield _line(self.headings)
        yield "|---" * len(self.headings) + "|"
        for number, row in enumerate(self.rows):
            numbers = [cell if _NUMBERS.fullmatch(cell) else in_markdown(cell) for cell in row[1:]]
            cells = [in_markdown(row[0]), *numbers]
            yield _line(
                [
                    f"**{cell}**" if number in self.best.get(title, ()) else cell
                    for title, cell in zip(self.headings, cells, strict=True)
                ]
            )


def table_of(summary: Summary, part: str | None = None, *, brief: bool = False) -> Table:
    """The table of a summary.

    Args:
        summary: As from ``summarize``.
        part: ``"minus_t_grad"`` for the differences to T-Grad; None for the numbers themselves.
        brief: No intervals or reasons, and image counts only if methods differ.
    """
    methods = summary["methods"].values()
    shown = [each for each in methods if part is None or each[part]]
    columns = _columns(methods)
    counts = {each["images"] for each in shown}
    counted = summary["images"] > 1 and (not brief or len(counts) > 1)
    return Table(
        ["Method", *map(heading, columns), *(["Images"] if counted else [])],
        [_row(each, part, columns, brief)[: None if counted else -1] for each in shown],
        {}
        if part
        else {heading(name): _best(shown, name) for name in columns if name in ALL_NUMBERS},
    )


def _columns(methods: Collection[Mapping[str, Any]]) -> list[str]:
    """The columns that any method has; the default ones if none has."""
    there = [name for name in COLUMNS if any(name in each for each in methods)]
    return there or [name for name in COLUMNS if name not in LOCALIZATION_NUMBERS]


def _row(
    each: Mapping[str, Any], part: str | None, columns: Sequence[str], brief: bool
) -> list[str]:
    cells = each if part is None else each[part]
    if not each["images"]:
        reason = "-" if brief else _one_line(each["reason"] or "not evaluated")
        return [each["title"], reason, *["-" if brief else ""] * (len(columns) - 1), "0"]
    # Of differences, the images that both methods have.
    images = max(cells[column]["images"] for column in columns) if part else each["images"]
    numbers = [
        _cell(cells[column], part is not None, brief)
        + (f" ({count})" if 0 < (count := cells[column]["images"]) < images else "")
        for column in columns
    ]
    return [each["title"], *numbers, str(images)]


def _best(shown: list[Mapping[str, Any]], column: str) -> list[int]:
    """The indices of the rows with the best mean; none if all are equal or images differ."""
    cells = {number: each[column] for number, each in enumerate(shown) if each["images"]}
    means = {n: cell["mean"] for n, cell in cells.items() if cell["mean"] is not None}
    counts = {cells[number]["images"] for number in means}
    if len(set(means.values())) < 2 or len(counts) > 1:
        return []
    best = (max if ALL_NUMBERS[column].higher_is_better else min)(means.values())
    return [number for number, mean in means.items() if mean == best]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Mapping[str, Any], signed: bool, brief: bool) -> str:
    if cell["mean"] is None:
        return "-"
    mean, *ends = (
        format(cell[key], f"{'+' if signed else ''}#.3g").rstrip(".")
        for key in ("mean", "low", "high")
        if key in cell
    )
    return f"{mean} [{', '.join(ends)}]" if ends and not brief and cell["images"] > 1 else mean


def _skipped(skipped: list[dict[str, Any]]) -> Iterator[str]:
    for each in skipped[:_SKIPPED_SHOWN]:
        what = [each[key] for key in ("image", "method") if each[key] is not None]
        yield f"- {in_markdown(', '.join(what))}: {in_markdown(_one_line(each['reason']))}"
    if len(skipped) > _SKIPPED_SHOWN:
        yield f"- and {len(skipped) - _SKIPPED_SHOWN} more, in summary.json"


def _one_line(text: str) -> str:
    return " ".join(text.split())
