"""An explanation as text for a terminal."""

from __future__ import annotations

from captum_tgrad._support.printable import printable
from captum_tgrad.explanation.explanation import Explanation, cut_away
from captum_tgrad.zoo.classifier import Box

_NAME_WIDTH = 40
_LEAST_SHARE_SHOWN = 0.005


def format_report(explanation: Explanation) -> str:
    """Formats an explanation as text, without a trailing line break; names are escaped.

    Returns:
        The most probable classes; the explained class, its logit and the parts of the logit; the
        size and sum of the map; and the largest terms.
    """
    target = explanation.target
    height, width = explanation.attribution.shape
    total = float(explanation.attribution.double().sum())
    paper = explanation.aggregation == "paper"
    # With "levels", a term's share of the map differs from its share of the scores.
    whole, kind = ("map", "map") if paper else ("positive scores", "map by levels")
    best = explanation.predictions[0].probability
    unsure = f"  low confidence: the best class has {best:.1%}; the image may show no known class"
    names = [printable(term.name) for term in explanation.largest_terms]
    name_width = max([_NAME_WIDTH, *map(len, names)])
    terms = [
        f"    {name:<{name_width}} {term.score:+12.4f}   {term.share:6.1%}"
        for name, term in zip(names, explanation.largest_terms, strict=True)
    ]
    lines = [
        *(f"  {line}" for line in seen_lines(explanation.size, explanation.seen)),
        "  most probable classes",
        *(
            f"    {each.probability:6.1%}  {printable(each.name)} ({each.index})"
            for each in explanation.predictions
        ),
        *([unsure] if explanation.unsure else []),
        f"  explained: {printable(target.name)} ({target.index}), probability"
        f" {target.probability:.1%}",
        f"    logit      {explanation.logit:+12.4f}",
        f"    = input    {explanation.input_score:+12.4f}   {explanation.input_share:6.1%} of"
        f" the {whole}",
        f"    + biases   {explanation.bias_score:+12.4f}   {explanation.bias_share:6.1%} of"
        f" the {whole}",
        f"    + residual {explanation.residual:+12.1e}",
        f"  {kind}: {height} x {width} pixels, sum of the positive scores {total:.4f}",
        f"  largest terms: score, and share of the {whole} (0% if the score is negative)",
        *terms,
    ]
    return "\n".join(lines)


def seen_lines(size: tuple[int, int] | None, seen: Box | None) -> list[str]:
    """One line about the part of an image that was cropped, if any was."""
    if size is None or seen is None:
        return []
    (width, height), (left, top, right, bottom) = size, seen
    share = cut_away(size, seen)
    if share < _LEAST_SHARE_SHOWN:
        return []
    return [
        f"cropped to the center {right - left} x {bottom - top} of {width} x {height} pixels,"
        f" cutting off {min(share, 0.99):.0%} of the image (--resize squash or pad keeps all"
        " of it)"
    ]
