"""Commands overwrite only their own results."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from captum_tgrad.evaluation.storage.files import OutputError
from captum_tgrad.evaluation.storage.protocol import PROTOCOL_FILE
from captum_tgrad.visualization.html_report import GENERATOR

REPORT = "report.html"

# Bytes of a report in which its ``generator`` tag stands.
_BEGINNING = 1000


def check_owner(folder: Path, command: str, names: Iterable[str], report: str = REPORT) -> None:
    """Checks that a command, which writes these files, overwrites only those of its own runs.

    The ``report`` in the folder says which command wrote it.

    Raises:
        OutputError: A file of another command or another program would be overwritten.
    """
    names = list(names)
    is_evaluation = REPORT in names and (folder / PROTOCOL_FILE).exists()
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
