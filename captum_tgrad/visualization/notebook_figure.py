"""Figures without a window: displayed in notebooks, or rendered as the content of a file."""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from typing import Any

from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from captum_tgrad._support.printable import printable_lines


def new_figure(width: float, height: float) -> Figure:
    """A matplotlib figure that is not registered with pyplot, and that notebooks display.

    IPython, Jupyter, VS Code and marimo display it at the end of a cell with any matplotlib
    backend. It is not a subclass, because Weights & Biases and other loggers recognize figures by
    their class name. Dollar signs in texts are not parsed as math. Sizes are in inches.
    Text and background have the colors of the user's matplotlib style.
    """
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.1)
    figure = Figure(figsize=(width, height), layout=layout)
    vars(figure).update(
        draw=partial(_draw, figure),
        show=partial(_show, figure),
        _repr_png_=partial(rendered, figure, dpi=None, bbox_inches="tight"),
    )
    return figure


def rendered(figure: Figure, kind: str = "png", dpi: float | None = 150, **options: Any) -> bytes:
    """A figure as the content of a file; the arguments are those of ``savefig``."""
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=dpi, **options)
    return content.getvalue()


def _draw(figure: Figure, renderer: RendererBase) -> None:
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_parse_math(False)
            text.set_text(printable_lines(text.get_text()))
    Figure.draw(figure, renderer)


def _show(figure: Figure, warn: bool = True) -> None:
    """Shows the figure in a notebook; elsewhere raises RuntimeError. ``warn`` is matplotlib's."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(shell, "kernel"):
        raise RuntimeError(
            "Figures are shown only in notebooks. Save the figure: figure.savefig('figure.png')."
        )
    from IPython.display import display

    display(figure)  # type: ignore[no-untyped-call]
