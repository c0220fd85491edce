"""``captum-tgrad methods`` and ``captum-tgrad models``."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from captum_tgrad._support.extras import is_installed
from captum_tgrad.cli.printer import Printer, line_width
from captum_tgrad.evaluation import METHODS
from captum_tgrad.zoo.load import listed_models

_GAP = "  "


def run_list(options: argparse.Namespace) -> int:
    """Lists the methods to compare or the networks for ``--model``; returns the exit status."""
    if options.command == "methods":
        cam = is_installed("pytorch_grad_cam")
        keys = ("name", "title", "cost", "source", "extra")
        listed: list[dict[str, Any]] = [
            {key: getattr(each, key) for key in keys} | {"installed": cam or each.extra != "cam"}
            for each in METHODS.values()
        ]
        rows = [[each["name"], each["cost"], each["source"], _needs(each)] for each in listed]
        headings = ["name", "cost per image", "source", "extra"]
    else:
        listed = listed_models()
        rows = [
            [
                each["name"],
                f"{each['parameters'] / 1e6:.1f} million",
                f"{each['multiply_adds'] / 1e9:.2f} billion",
                each["source"],
                _needs(each),
            ]
            for each in listed
        ]
        headings = ["name", "parameters", "multiply-adds", "weights", "extra"]
    printer = Printer(options)
    printer.print(columns(headings, rows, line_width()))
    if missing := sorted({each["extra"] for each in listed if not each["installed"]}):
        printer.print(f'\nTo install, run in the clone: pip install ".[{",".join(missing)}]"')
    printer.json(listed)
    return 0


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """A table of texts in lines of at most ``width`` characters.

    The widest columns are narrowed until the lines fit, but not below their longest words.

    Example:
        >>> print(columns(["name", "cost"], [["a", "one pass"]], 9))
        name  cost
        a     one
              pass
    """
    table = [headings, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    least = [
        max(len(word) for cell in column for word in [*cell.split(), ""])
        for column in zip(*table, strict=True)
    ]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > width and widths != least:
        slack = [now if now > low else 0 for now, low in zip(widths, least, strict=True)]
        widths[slack.index(max(slack))] -= 1
    return "\n".join(line for row in table for line in _lines(row, widths))


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    cells = [
        textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False)
        for cell, width in zip(row, widths, strict=True)
    ]
    for parts in zip_longest(*cells, fillvalue=""):
        padded = [part.ljust(width) for part, width in zip(parts, widths, strict=True)]
        yield _GAP.join(padded).rstrip()


def _needs(each: Mapping[str, Any]) -> str:
    if not each["extra"]:
        return "none"
    return f"{each['extra']}{'' if each['installed'] else ', not installed'}"
