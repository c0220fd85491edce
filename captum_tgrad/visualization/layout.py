"""The layout of figures: sizes, parts, titles and axes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from captum_tgrad.visualization.notebook_figure import new_figure

WIDTH = 10.5
"""The width of a page, in inches."""

SMALL, NORMAL, LARGE = 8.0, 9.5, 12.0
"""Font sizes in points, for figures as wide as a page."""

# Letters per inch in the title of a figure.
_TITLE_LETTERS = 10


def stacked_parts(width: float, heights: Sequence[float]) -> list[SubFigure]:
    """The parts of a new figure from top to bottom, with these heights in inches."""
    figure = new_figure(width, sum(heights))
    parts: Any = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    return list(parts[:, 0])


def write_title(part: Figure | SubFigure, text: str | None) -> None:
    """Writes a title, if any, over a figure or a part of one, in as many lines as it takes."""
    if text:
        inches = part.bbox.width / part.dpi
        part.suptitle(textwrap.fill(text, round(inches * _TITLE_LETTERS)), fontsize=LARGE)


def finish_plot(axes: Axes, *, grid: bool = True) -> None:
    """Gives a plot of lines or bars the style of all figures."""
    if grid:
        axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL, labelleft=True)
    axes.xaxis.label.set_fontsize(NORMAL)
    axes.yaxis.label.set_fontsize(NORMAL)


def wrapped(text: str, width: int, lines: int = 2) -> str:
    r"""Breaks a text into lines of ``width`` letters; "..." stands for what does not fit.

    A text without spaces, such as the name of a module, is shortened at the front: names of modules
    differ at the end.

    Example:
        >>> wrapped("a wide-brimmed hat", 10)
        'a wide-\nbrimmed...'
        >>> wrapped("features.0.block.1.conv", 12, lines=1)
        '...ck.1.conv'
    """
    if " " not in text:
        text = text if len(text) <= width * lines else "..." + text[3 - width * lines :]
        return "\n".join(text[start : start + width] for start in range(0, len(text), width))
    broken = textwrap.wrap(text, width, max_lines=lines, placeholder="...")
    return "\n".join(broken).replace(",...", "...")
