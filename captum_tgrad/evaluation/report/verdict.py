"""A summary in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from captum_tgrad.evaluation.report.summary import REFERENCE, Summary
from captum_tgrad.metrics.registry import NUMBERS

FEWEST_IMAGES = 6
"""The minimum for a verdict: a sign test on five images has p = 2 * 0.5**5 = 0.06 at best."""

_NAMED = 3
_AHEAD, _BEHIND, _ALIKE = "is ahead of", "is behind", "does not differ significantly from"


def verdict(summary: Summary) -> str:
    """Which methods T-Grad is ahead of, behind, or not significantly different from.

    Two methods differ significantly if the 95% interval of their paired difference in Insertion -
    Deletion excludes 0. The intervals are not corrected for multiple comparisons. The number of
    images is that of the method that shares the fewest with T-Grad.
    """
    ran = {name: each for name, each in summary["methods"].items() if each["images"]}
    paired = [each["minus_t_grad"]["difference"] for each in ran.values() if each["minus_t_grad"]]
    images = min((cell["images"] for cell in paired), default=summary["images"])
    if not summary["images"]:
        return "No image was evaluated."
    if images < FEWEST_IMAGES:
        few = "One image is" if images == 1 else f"{images} images are"
        return f"{few} too few to rank methods: use at least {FEWEST_IMAGES}."
    if REFERENCE not in ran:
        return f"No verdict: {REFERENCE}, the reference of differences, is not among the methods."
    ours = ran.pop(REFERENCE)["title"]
    if not ran:
        return f"{ours} is the only method: there is nothing to compare it with."
    found: dict[str, list[str]] = {_AHEAD: [], _BEHIND: [], _ALIKE: []}
    for each in ran.values():
        cell = each["minus_t_grad"]["difference"]
        what = _AHEAD if cell["high"] < 0 else _BEHIND if cell["low"] > 0 else _ALIKE
        found[what].append(each["title"])
    where = f"in {NUMBERS['difference'].heading} on {images} images."
    return _sentence(ours, {what: titles for what, titles in found.items() if titles}, where)


def steps_or_images(summary: Summary) -> str:
    """Whether more steps or more images would narrow the intervals; empty if unknown."""
    steps = summary.get("steps")
    cells = [each["difference"] for each in summary["methods"].values() if each["images"]]
    widths = [(cell["high"] - cell["low"]) / 2 for cell in cells if cell["mean"] is not None]
    if not steps or not widths or summary["images"] < 2:
        return ""
    width = max(widths)
    what = "steps" if steps["of_a_mean"] > width else "images"
    return (
        f"With half the steps, Insertion - Deletion changes by {steps['of_an_image']:.4f} per image"
        f" (root mean square), and the mean of a method by at most {steps['of_a_mean']:.4f}. The"
        f" intervals over images are ±{width:.3f}. Use more {what} for more precision."
    )


def _sentence(ours: str, found: Mapping[str, Sequence[str]], where: str) -> str:
    if found.keys() == {_ALIKE} and len(found[_ALIKE]) == 1:
        return f"{ours} and {found[_ALIKE][0]} do not differ significantly {where}"
    *first, last = (f"{what} {_listed(titles)}" for what, titles in found.items())
    return f"{ours} {', '.join(first)}, and {last}, {where}" if first else f"{ours} {last} {where}"


def _listed(titles: Sequence[str]) -> str:
    """The titles, or the number of methods if there are many."""
    if len(titles) > _NAMED:
        return f"{len(titles)} methods"
    *first, last = titles
    return f"{', '.join(first)} and {last}" if first else last
