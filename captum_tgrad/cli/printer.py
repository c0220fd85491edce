"""The final output of a command: a table and a verdict, or JSON, or nothing."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from captum_tgrad._support.printable import printable
from captum_tgrad._support.suggest import few
from captum_tgrad._support.writing import as_json
from captum_tgrad.cli.jobs import image_title
from captum_tgrad.evaluation.report.table import Table, table_of, text_table
from captum_tgrad.evaluation.report.verdict import verdict
from captum_tgrad.explanation.text_report import seen_lines
from captum_tgrad.zoo import Classifier
from captum_tgrad.zoo.preprocessing import Preprocessing

_WIDTH = 100
_NARROWEST = 40


class Printer:
    """Prints what a command found: as text, as JSON (``--json``), or not at all (``--quiet``)."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._json = options.json
        self.silent = options.json or options.quiet
        self.show_progress = False if options.quiet else None  # None: on a terminal only

    def print(self, text: str = "") -> None:
        """Prints a text."""
        if not self.silent:
            print(text)

    def print_wrapped(self, text: object) -> None:
        """Prints a text wrapped to the terminal, with control characters escaped."""
        self.print(textwrap.fill(printable(text), line_width(), break_on_hyphens=False))

    def json(self, value: Any) -> None:
        """Prints a value as JSON, if ``--json`` is set."""
        if self._json:
            print(as_json(value), end="")

    def results(self, heading: str, summary: dict[str, Any]) -> None:
        """Prints the numbers of a summary and the verdict, or the summary as JSON."""
        means = ": means" * (summary["images"] > 1)
        self.print_wrapped(f"{heading}{means}. * marks the best; arrows show the better direction.")
        self.print()
        self.table(table_of(summary, brief=True), verdict(summary))
        self.json(summary)

    def table(self, table: Table, conclusion: str) -> None:
        """Prints a table of numbers and the conclusion from it."""
        self.print(text_table(table, line_width()))
        self.print()
        self.print_wrapped(conclusion)

    def cut_away(self, classifier: Classifier, images: Iterable[tuple[Path | None, Image]]) -> None:
        """Prints a line for every image of which the network does not see a part."""
        steps = classifier.preprocess
        if not isinstance(steps, Preprocessing):
            return
        for path, image in images:
            for line in seen_lines(image.size, steps.seen(*image.size)):
                self.print_wrapped(f"{image_title(path)}: {line}")

    def written(self, folder: Path, names: Iterable[str], replaced: Sequence[str] = ()) -> None:
        """Prints which of the files exist, and which existed before."""
        there = [f"{name}{' (replaced)' * (name in replaced)}" for name in existing(folder, names)]
        self.print_wrapped(f"written to {folder}: {', '.join(there)}")


def line_width() -> int:
    """The line width: that of the terminal, but at most 100 characters."""
    return max(_NARROWEST, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))


def fitted(text: str) -> str:
    """A text wrapped to the terminal, with continuation lines indented."""
    wrapper = textwrap.TextWrapper(
        line_width(), subsequent_indent="    ", break_on_hyphens=False, break_long_words=False
    )
    return "\n".join(map(wrapper.fill, text.split("\n")))


def existing(folder: Path, names: Iterable[str]) -> list[str]:
    """The names of the files that exist."""
    return [name for name in names if (folder / name).is_file()]


def print_skipped(skipped: Iterable[tuple[object, object]]) -> int:
    """Prints a line on standard error for each reason; returns the exit status, 0 or 1."""
    by_reason: dict[str, list[str]] = {}
    for what, reason in skipped:
        by_reason.setdefault(str(reason), []).append(str(what))
    for reason, names in by_reason.items():
        # Most messages about a file begin with its path.
        named = "" if reason.startswith(names[0]) else f"{few(names, 1)}: "
        print(f"skipped: {printable(f'{named}{reason}')}", file=sys.stderr)
    return int(bool(by_reason))
