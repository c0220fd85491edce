"""Figures that every notebook shows."""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure


def shown_figure(width: float, height: float, **options: Any) -> Figure:
    """A matplotlib figure that is not registered with pyplot, and that notebooks show.

    A cell that ends with it shows it in IPython, Jupyter, VS Code and marimo, whatever backend of
    matplotlib is set. It is no class of its own, since Weights & Biases and other loggers know
    figures by the name of their class.

    Args:
        width: In inches.
        height: In inches.
        options: Further arguments of ``Figure``.
    """
    figure = Figure(figsize=(width, height), **options)
    vars(figure).update(_repr_png_=partial(_png, figure), show=partial(_show, figure))
    return figure


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
