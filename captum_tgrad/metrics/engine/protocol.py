"""The protocol of a result: how its numbers were computed."""

from __future__ import annotations

from typing import Any

import torch

from captum_tgrad import __version__


def protocol_of(metric: str, entries: dict[str, Any]) -> dict[str, Any]:
    """The metric's name, its entries (plain strings, numbers, lists and dicts), and versions."""
    return {
        "metric": metric,
        **entries,
        "captum_tgrad": __version__,
        "torch": str(torch.__version__),
    }
