"""Recognizes files that another command or program has written, to overwrite none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from captum_tgrad.visualization.html_report import GENERATOR

PROTOCOL_FILE = "protocol.json"
REPORT = "report.html"

# The ``generator`` tag of a report is within this many bytes of its beginning.
_BEGINNING = 1000


class OutputError(ValueError):
    """The output folder has records or files that conflict with this run."""


def check_owner(folder: Path, command: str, names: Sequence[str]) -> None:
    """Raises OutputError if a command would overwrite files of another command or program.

    The first page among ``names``, if it is in the folder, says which command wrote it.
    """
    report = next(name for name in names if name.endswith(".html"))
    is_evaluation = report == REPORT and (folder / PROTOCOL_FILE).exists()
    owner = "evaluate" if is_evaluation else _writer(folder / report)
    if owner == command:
        return
    if owner is not None:
        raise OutputError(
            f"{folder} has the results of captum-tgrad {owner}, such as {report}, which would be"
            " overwritten: use another folder"
        )
    for name in names:
        if (folder / name).is_file():
            raise OutputError(
                f"{folder / name} would be overwritten, but captum-tgrad {command} did not write"
                " it: use another folder, or move the file"
            )


def _writer(report: Path) -> str | None:
    """The command that wrote a report; None if there is no report, or it names none."""
    if not report.is_file():
        return None
    with report.open("rb") as file:
        beginning = file.read(_BEGINNING).decode("utf-8", "replace")
    found = re.search(rf'content="{GENERATOR} ([a-z-]+)"', beginning)
    return found[1] if found else None
