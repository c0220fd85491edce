"""Writes the files of a command into its output folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from captum_tgrad._support.writing import writing


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Writes files, given as contents by name, in their order; creates the folder if needed.

    Contents are computed before the call, so an interruption rarely leaves only some of the files.
    The first file should be the one by which the next run recognizes the files as its own: see
    ``check_owner``.

    Raises:
        WriteError: The folder or a file cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        with writing(path):
            path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV, with the same line ends on every platform."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def png(figure: Figure, dots_per_inch: int = 150, **options: Any) -> bytes:
    """A figure as PNG; ``options`` are those of ``savefig``."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch, **options)
    return drawn.getvalue()
