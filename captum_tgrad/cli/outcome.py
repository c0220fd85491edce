"""The final output of a command: a table and a verdict, or JSON, or nothing."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from captum_tgrad._support.printable import printable
from captum_tgrad.cli.jobs import title_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from captum_tgrad.zoo import Classifier

_WIDTH = 100
_NARROWEST = 40


def line_width() -> int:
    """The line width: that of the terminal, but at most 100 characters."""
    return max(_NARROWEST, min(_WIDTH, shutil.get_terminal_size((_WIDTH, 24)).columns))


def say(options: argparse.Namespace, text: str = "") -> None:
    """Prints a text, unless ``--json`` or ``--quiet`` is set."""
    if not options.json and not options.quiet:
        print(text)


def say_wrapped(options: argparse.Namespace, text: object) -> None:
    """The same, wrapped to the terminal, with control characters escaped."""
    say(options, textwrap.fill(printable(text), line_width(), break_on_hyphens=False))


def fitted(text: str) -> str:
    """A text wrapped to the terminal, with continuation lines indented."""
    return "\n".join(
        textwrap.fill(
            line,
            line_width(),
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for line in text.split("\n")
    )


def say_results(options: argparse.Namespace, heading: str, summary: dict[str, Any]) -> None:
    """Prints the means of a summary and the verdict, or the summary as JSON."""
    from captum_tgrad.evaluation.report.table import table_of
    from captum_tgrad.evaluation.report.text_table import text_table
    from captum_tgrad.evaluation.report.verdict import verdict

    say_wrapped(options, f"{heading}: means. * marks the best; arrows show the better direction.")
    say(options)
    say(options, text_table(table_of(summary, brief=True), line_width()))
    say(options)
    say_wrapped(options, verdict(summary))
    print_json(options, summary)


def say_seen(
    options: argparse.Namespace,
    classifier: Classifier,
    pictures: Sequence[tuple[Path | None, Image]],
) -> None:
    """Prints a line for every image of which a part was cut away."""
    from captum_tgrad.explanation.text_report import seen_lines
    from captum_tgrad.zoo.preprocessing import Preprocessing

    steps = classifier.preprocess
    if not isinstance(steps, Preprocessing):
        return
    for path, image in pictures:
        for line in seen_lines(image.size, steps.seen(*image.size)):
            say_wrapped(options, f"{title_of(path)}: {line}")


def existing(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of the files that exist."""
    return [name for name in names if (folder / name).is_file()]


def say_written(
    options: argparse.Namespace, folder: Path, names: Iterable[str], replaced: Sequence[str] = ()
) -> None:
    """Prints which of the files exist, and which existed before."""
    there = [f"{name}{' (replaced)' * (name in replaced)}" for name in existing(folder, names)]
    say_wrapped(options, f"written to {folder}: {', '.join(there)}")


def print_json(options: argparse.Namespace, value: Any) -> None:
    """Prints a value as JSON, if ``--json`` is set; non-finite numbers are null."""
    if options.json:
        from captum_tgrad.evaluation.storage.records import as_json

        print(as_json(value), end="")


def say_skipped(skipped: Sequence[tuple[object, object]]) -> int:
    """Prints on standard error what was skipped, and why; returns the exit status, 0 or 1."""
    for what, reason in skipped:
        # Most messages about a file begin with its path.
        named = f"{what}: " if not str(reason).startswith(str(what)) else ""
        print(f"skipped: {printable(f'{named}{reason}')}", file=sys.stderr)
    return 1 if skipped else 0


def show_progress(options: argparse.Namespace) -> bool | None:
    """Whether to show a progress bar: on a terminal, unless ``--quiet`` is set."""
    return False if options.quiet else None
