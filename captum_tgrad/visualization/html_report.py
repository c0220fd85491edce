"""A self-contained HTML report of text, figures and tables."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad._support.printable import in_html
from captum_tgrad.visualization.html_templates import render, source
from captum_tgrad.visualization.notebook_figure import rendered

GENERATOR = "captum-tgrad"
"""The beginning of the ``generator`` tag of a page, before the command that wrote it."""

_DOTS_PER_INCH = 110
_QUALITY = 90


class Report:
    """Collects the parts of a report, and writes them as HTML.

    The page embeds its images, works offline, in print and on a phone, and loads nothing from the
    network. It has no scripts, and its content security policy forbids them.

    Args:
        title: The title of the page.
        summary: A one-sentence summary.
        command: The command that writes the page, for its ``generator`` tag.

    Example:
        >>> report = Report("Coffee", "What the network saw in a cup.")
        >>> report.section("Scores")
        >>> report.text("Higher is better.")
        >>> report.table(["method", "insertion"], [["T-Grad", "0.71"]])
        >>> "<td>0.71</td>" in report.html()
        True
    """

    def __init__(self, title: str, summary: str = "", command: str = "") -> None:
        self.title = title
        self.summary = summary
        self._generator = f"{GENERATOR} {command}".strip()
        # Each with its kind and what was added, also for other formats.
        self.parts: list[dict[str, Any]] = []

    def section(self, title: str) -> None:
        """Begins a section, which is linked at the top of the page."""
        name = re.sub(r"[^a-z0-9]+", "-", title.casefold()).strip("-") or "section"
        taken = {part["anchor"] for part in self.parts if part["kind"] == "section"}
        anchor, number = name, 1
        while anchor in taken:
            number += 1
            anchor = f"{name}-{number}"
        self._add("section", anchor=anchor, title=title)

    def text(self, text: str) -> None:
        """Adds plain text; blank lines separate paragraphs."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            self._add("text", text=paragraph.strip())

    def figure(self, figure: Figure, description: str, caption: str = "") -> None:
        """Adds a figure.

        Args:
            figure: A matplotlib figure; it is not changed.
            description: The alternative text for screen readers.
            caption: The caption.

        Raises:
            TypeError: ``figure`` is not a matplotlib figure.
            ValueError: ``description`` is empty.
        """
        if not isinstance(figure, Figure):
            raise TypeError(f"figure must be a matplotlib Figure, got {type(figure).__name__}")
        if not description.strip():
            raise ValueError("description is empty: describe what the figure shows")
        width, height = (round(inches * _DOTS_PER_INCH) for inches in figure.get_size_inches())
        # WebP is as sharp as PNG in a sixth of its size.
        options = {"quality": _QUALITY, "method": 6}
        # The whole figure, also if the user's style cuts off margins: the page has its size.
        whole = figure.bbox_inches
        drawn = rendered(figure, "webp", dpi=_DOTS_PER_INCH, bbox_inches=whole, pil_kwargs=options)
        self._add(
            "figure",
            image=base64.b64encode(drawn).decode("ascii"),
            width=width,
            height=height,
            description=description,
            caption=caption,
        )

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        caption: str = "",
        best: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Adds a table whose first column names the rows.

        Args:
            columns: The headings.
            rows: The cells, one for each heading in every row.
            caption: The caption.
            best: For column headings, the indices of the rows to highlight.

        Raises:
            ValueError: A row has another number of cells, or ``best`` names an unknown column.
        """
        # Copies, so that later changes to the lists do not change the report.
        columns, rows = list(columns), [list(row) for row in rows]
        best = {name: list(numbers) for name, numbers in (best or {}).items()}
        for number, row in enumerate(rows):
            if len(row) != len(columns):
                raise ValueError(
                    f"row {number} has {len(row)} cells for {len(columns)} columns: pass one per"
                    " column"
                )
        for name in best:
            if name not in columns:
                raise ValueError(f"best has {name!r}, which is not a column: {', '.join(columns)}")
        self._add("table", columns=columns, rows=rows, caption=caption, best=best)

    def protocol(self, protocol: Mapping[str, Any]) -> None:
        """Adds how numbers were computed, such as the ``protocol`` of a metric's result."""
        entries = [(name.replace("_", " "), _plain(value)) for name, value in protocol.items()]
        self._add("protocol", entries=entries, protocol=dict(protocol))

    def html(self) -> str:
        """The whole page."""
        return render(
            "report.html",
            title=self.title,
            generator=self._generator,
            summary=self.summary,
            style=source("report.css"),
            parts=self.parts,
            in_two_lines=_in_two_lines,
        )

    def write(self, path: str | Path) -> None:
        """Writes the page to a file."""
        Path(path).write_text(self.html(), encoding="utf-8")

    def _add(self, kind: str, **values: Any) -> None:
        self.parts.append({"kind": kind, **values})


def _in_two_lines(cell: object) -> str:
    """A cell as HTML, with a line break only between a number and its interval."""
    return re.sub(r"\[[^]]*\](?=( \(\d+\))?$)", r"<span>\g<0></span>", in_html(cell))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        # Only the name of a method without settings.
        return ", ".join(
            ": ".join(filter(None, (name, _plain(each)))) for name, each in value.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(each) for each in value)
    return str(value)
