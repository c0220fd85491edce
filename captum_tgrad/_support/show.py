"""The ``repr`` and the notebook tables of results."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_tgrad._support.printable import in_html

_SHOWN = 4  # numbers in a text
_COLUMNS = 8  # samples in a table


def numbers(values: Tensor) -> str:
    """The first values of a tensor with one number per sample: ``"1.31"``, ``"[1.31, -0.2]"``."""
    shown = [f"{float(value):.4g}" for value in values.detach().flatten()[:_SHOWN]]
    joined = ", ".join([*shown, "..."] if values.numel() > _SHOWN else shown)
    return joined if values.numel() == 1 else f"[{joined}]"


def html_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of numbers, with text in the first column; everything is escaped."""

    def row(cells: Sequence[object], kind: str) -> str:
        side = ["left", *["right"] * (len(cells) - 1)]
        found = [
            f'<{kind} style="text-align:{where}">{in_html(cell)}</{kind}>'
            for where, cell in zip(side, cells, strict=True)
        ]
        return f"<tr>{''.join(found)}</tr>"

    body = "".join(row(cells, "td") for cells in rows)
    return (
        f"<table><caption>{in_html(title)}</caption>"
        f"<thead>{row(headings, 'th')}</thead><tbody>{body}</tbody></table>"
    )


class Result:
    """A base class for frozen dataclasses of tensors, with a short ``repr`` and a notebook table.

    ``torch.load`` also reads its objects with ``weights_only=True``.
    """

    def __init_subclass__(cls) -> None:
        torch.serialization.add_safe_globals([cls])

    def __repr__(self) -> str:
        """``"InsertionResult(insertion=0.71, clean_score=0.98)"``: each tensor's first numbers."""
        parts = [f"{name}={numbers(values)}" for name, values in self._per_sample().items()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def _repr_html_(self) -> str:
        rows = [
            (name, *(f"{float(value):.4g}" for value in values.flatten()[:_COLUMNS]))
            for name, values in self._per_sample().items()
        ]
        width = max((len(row) for row in rows), default=1)
        padded = [(*row, *[""] * (width - len(row))) for row in rows]
        headings = ["", *(f"sample {number}" for number in range(width - 1))]
        return html_table(type(self).__name__, headings, padded)

    def _per_sample(self) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, Tensor) and value.dim() < 2
        }
