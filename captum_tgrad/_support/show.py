"""Short texts and HTML tables of results, for a terminal and a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TypeGuard

from torch import Tensor

_SHOWN = 4


def numbers(values: Tensor) -> str:
    """The first few of one number per sample: ``"1.31, -0.2, ..."``."""
    shown = [f"{float(value):.4g}" for value in values.detach().flatten()[:_SHOWN]]
    return ", ".join([*shown, "..."] if values.numel() > _SHOWN else shown)


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table with a title; every text in it is escaped.

    Args:
        title: What stands above it.
        headings: One for each column.
        rows: What is in it; the first column is text, the others are numbers.
    """

    def row(cells: Sequence[object], kind: str) -> str:
        side = ["left", *["right"] * (len(cells) - 1)]
        found = [
            f'<{kind} style="text-align:{where}">{escape(str(cell))}</{kind}>'
            for where, cell in zip(side, cells, strict=True)
        ]
        return f"<tr>{''.join(found)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return (
        f"<table><caption>{escape(title)}</caption>"
        f"<thead>{row(headings, 'th')}</thead><tbody>{body}</tbody></table>"
    )


def fields_repr(name: str, fields: Mapping[str, object]) -> str:
    """``"Area(area=0.71, clean_score=0.98)"``: the first numbers of tensors, and nothing else."""
    shown = [f"{key}={numbers(value)}" for key, value in fields.items() if _is_per_sample(value)]
    return f"{name}({', '.join(shown)})"


def fields_html(name: str, fields: Mapping[str, object]) -> str:
    """The numbers of each sample as a table."""
    shown = {key: value for key, value in fields.items() if _is_per_sample(value)}
    rows = [
        (key, *(f"{float(v):.4g}" for v in value.flatten()[:_COLUMNS]))
        for key, value in shown.items()
    ]
    width = max((len(row) for row in rows), default=1)
    padded = [(*row, *[""] * (width - len(row))) for row in rows]
    return html_table(name, ["", *(f"sample {n}" for n in range(width - 1))], padded)


_COLUMNS = 8


def _is_per_sample(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dim() < 2
