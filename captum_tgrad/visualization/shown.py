"""Figures that every notebook shows."""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from typing import Any

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from captum_tgrad._support.printable import printable_lines


def shown_figure(width: float, height: float, **options: Any) -> Figure:
    """A matplotlib figure that is not registered with pyplot, and that notebooks show.

    A cell that ends with it shows it in IPython, Jupyter, VS Code and marimo, whatever backend of
    matplotlib is set. It is no class of its own, since Weights & Biases and other loggers know
    figures by the name of their class. Its texts are drawn letter by letter: a name with dollar
    signs is no formula.

    Args:
        width: In inches.
        height: In inches.
        options: Further arguments of ``Figure``.
    """
    figure = Figure(figsize=(width, height), **options)
    vars(figure).update(
        draw=partial(_draw, figure),
        show=partial(_show, figure),
        _repr_png_=partial(_png, figure),
    )
    return figure


def _draw(figure: Figure, renderer: RendererBase) -> None:
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
            text.set_text(printable_lines(text.get_text()))
    Figure.draw(figure, renderer)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _show(figure: Figure, warn: bool = True) -> None:
    """Shows the figure in a notebook; elsewhere raises RuntimeError. ``warn`` is matplotlib's."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(shell, "kernel"):
        raise RuntimeError(
            "No notebook is running that could show this figure. Write it to a file:"
            " figure.savefig('figure.png')."
        )
    from IPython.display import display

    display(figure)  # type: ignore[no-untyped-call]
