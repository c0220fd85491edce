"""Figures that every notebook shows."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A matplotlib figure that is not registered with pyplot, and that notebooks show.

    A cell that ends with it shows it in IPython, Jupyter, VS Code and marimo, whatever backend of
    matplotlib is set.
    """

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", bbox_inches="tight")
        return buffer.getvalue()

    def show(self, warn: bool = True) -> None:
        """Shows the figure in a notebook.

        Args:
            warn: Not used; matplotlib's own figures have it.

        Raises:
            RuntimeError: No notebook is running.
        """
        shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if not hasattr(shell, "kernel"):
            raise RuntimeError(
                "No notebook is running that could show this figure. Write it to a file:"
                " figure.savefig('figure.png')."
            )
        from IPython.display import display

        display(self)  # type: ignore[no-untyped-call]
