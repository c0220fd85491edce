"""Figures of an evaluation: the metrics and the time of each method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from captum_tgrad.metrics.registry import ALL_NUMBERS
from captum_tgrad.visualization.method_colors import method_styles
from captum_tgrad.visualization.notebook_figure import new_figure

_INTERVAL = "#2b2b2b"
# On an axis of fewer decades, ticks are also at 2 and 5 times the powers of ten.
_FEW_DECADES = 3.0
_COLUMNS = 3


def metrics_figure(summary: Mapping[str, Any]) -> Figure:
    """Draws the metrics of each method, with intervals.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 4.

    Args:
        summary: The result of ``captum_tgrad.evaluation.summarize``.

    Raises:
        ValueError: No method has records.
    """
    shown = _with_records(summary)
    first = next(iter(shown.values()))
    numbers = {name: each for name, each in ALL_NUMBERS.items() if name in first}
    rows = len(numbers) // _COLUMNS + 1
    # The caption is as high as five bars.
    figure = new_figure(4.0 * _COLUMNS, rows * (1.2 + 0.28 * max(len(shown), 5)))
    grid = figure.subplots(rows, _COLUMNS, sharey=True)
    for axes, (name, number) in zip(grid.flat, numbers.items(), strict=False):
        direction = "higher" if number.higher_is_better else "lower"
        _bars(axes, shown, name, f"{number.title} ({direction} is better)")
    # Keeps the titles of a row away from the numbers above them.
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axes in grid.flat[len(numbers) :]:
        axes.axis("off")
    last = grid.flat[len(numbers)]
    last.text(
        0, 1, _caption(summary), transform=last.transAxes, va="top", fontsize="small", wrap=True
    )
    return figure


def seconds_figure(summary: Mapping[str, Any]) -> Figure:
    """Draws the seconds per image of each method.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 3.

    Args:
        summary: The result of ``captum_tgrad.evaluation.summarize``.

    Raises:
        ValueError: No method has records.
    """
    shown = _with_records(summary)
    figure = new_figure(8.0, 1.8 + 0.3 * len(shown))
    axes = figure.subplots()
    _dots(axes, shown)
    protocol = summary["protocol"]
    where = f"{protocol.get('model')}, {protocol.get('device')}, {summary['images']} images"
    figure.supxlabel(f"{where}, batches of {protocol.get('batch_size')}", fontsize="small")
    return figure


def _with_records(summary: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    shown = {name: each for name, each in summary["methods"].items() if each["images"]}
    if not shown:
        raise ValueError("summary has no records: evaluate at least one method")
    return shown


def _bars(axes: Axes, shown: Mapping[str, Mapping[str, Any]], metric: str, title: str) -> None:
    cells = [[each[metric][key] for key in ("mean", "low", "high")] for each in shown.values()]
    # None becomes NaN, which is not drawn.
    means, lows, highs = np.array(cells, dtype=float).T
    errors = np.abs([lows - means, highs - means])
    places, colors = range(len(shown)), _colors(shown)
    axes.barh(places, means, color=colors, xerr=errors, ecolor=_INTERVAL, capsize=2)
    axes.locator_params(axis="x", nbins=5)  # small numbers are long
    _finish(axes, shown, title)


def _dots(axes: Axes, shown: Mapping[str, Mapping[str, Any]]) -> None:
    """The seconds, as a dot for each method with its number."""
    axes.set_xscale("log")
    for place, (each, color) in enumerate(zip(shown.values(), _colors(shown), strict=True)):
        mean = each["seconds"]["mean"]
        if mean:
            axes.plot(mean, place, "o", color=color, markersize=8)
            axes.annotate(
                plain(mean, 2),
                (mean, place),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 2.5)  # the last number needs room
    few = high / low < 10**_FEW_DECADES
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    _finish(axes, shown, "Seconds per image (logarithmic axis; lower is better)")


def plain(value: float, digits: int | None = None) -> str:
    """A number without an exponent, ``"0.00012"``, with ``digits`` significant digits or all."""
    return np.format_float_positional(value, digits, unique=True, fractional=False, trim="-")


def _colors(shown: Mapping[str, Mapping[str, Any]]) -> list[str]:
    titles = [str(each["title"]) for each in shown.values()]
    return [str(style["color"]) for style in method_styles(titles).values()]


def _finish(axes: Axes, shown: Mapping[str, Mapping[str, Any]], title: str) -> None:
    axes.set_yticks(range(len(shown)), [each["title"] for each in shown.values()])
    axes.set_ylim(len(shown) - 0.4, -0.6)  # the first method is at the top
    axes.set_title(title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _caption(summary: Mapping[str, Any]) -> str:
    protocol = summary["protocol"]
    lines = [f"{summary['images']} images, {protocol.get('model')}"]
    keys = ("target", "n_steps", "baseline", "score", "ties")
    lines += [f"{key}: {protocol[key]}" for key in keys if key in protocol]
    return "\n".join([*lines, "intervals:", *str(summary["interval"]).split(", ")])
