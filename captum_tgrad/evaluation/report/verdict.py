"""What the paired differences of a summary say, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from captum_tgrad.evaluation.report.summary import REFERENCE, Summary
from captum_tgrad.metrics.registry import NUMBERS

FEWEST_IMAGES = 6
"""With fewer, no verdict: even if all agree, a sign test has p = 2 * 0.5**5 = 0.06 on five."""

_COLUMN = "difference"
_NAMED = 3


def verdict(summary: Summary) -> str:
    """Which methods T-Grad is ahead of, behind, or cannot be told apart from.

    It goes by the 95% intervals of the paired differences in Insertion - Deletion: a method is
    ahead where its interval does not hold 0. The intervals are not corrected for their number. The
    images are those of the method that shares the fewest with T-Grad.

    Args:
        summary: As from ``summarize``.

    Returns:
        One sentence, or two where there are too few images or methods for a verdict.
    """
    ran = {name: each for name, each in summary["methods"].items() if each["images"]}
    paired = [each["minus_t_grad"][_COLUMN] for each in ran.values() if each["minus_t_grad"]]
    images = min((cell["images"] for cell in paired), default=summary["images"])
    if images < FEWEST_IMAGES:
        few = "One image says" if images == 1 else f"{images or 'No'} images say"
        return f"{few} little about which method is better. Compare them on more."
    if REFERENCE not in ran:
        return f"No verdict: differences are taken to {REFERENCE}, which is not among the methods."
    ours = ran.pop(REFERENCE)["title"]
    ahead, behind, alike = [], [], []
    for each in ran.values():
        cell = each["minus_t_grad"][_COLUMN]
        if cell["high"] < 0:
            ahead.append(each["title"])
        elif cell["low"] > 0:
            behind.append(each["title"])
        else:
            alike.append(each["title"])
    where = f"in {NUMBERS[_COLUMN].heading} on {images} images."
    return _sentence(ours, ahead, behind, alike, where)


def _sentence(
    ours: str, ahead: Sequence[str], behind: Sequence[str], alike: Sequence[str], where: str
) -> str:
    count = len(ahead) + len(behind) + len(alike)
    if not count:
        return f"{ours} is the only method: there is nothing to compare it with."
    if len(ahead) == count > 1:
        return f"{ours} is ahead of every other method {where}"
    if len(behind) == count > 1:
        return f"{ours} is behind every other method {where}"
    if len(alike) == count == 1:
        return f"{ours} and {alike[0]} cannot be told apart {where}"
    found = {"is ahead of": ahead, "is behind": behind, "cannot be told apart from": alike}
    parts = [f"{what} {_listed(titles)}" for what, titles in found.items() if titles]
    if len(parts) == 1:
        return f"{ours} {parts[0]} {where}"
    return f"{ours} {', '.join(parts[:-1])}, and {parts[-1]}, {where}"


def _listed(titles: Sequence[str]) -> str:
    """The titles, or how many methods they are."""
    return _joined(titles) if len(titles) <= _NAMED else f"{len(titles)} methods"


def _joined(parts: Sequence[str]) -> str:
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
