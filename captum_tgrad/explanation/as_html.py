"""An explanation as an HTML page, also inside a notebook."""

from __future__ import annotations

from html import escape

from PIL.Image import Image

from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.explanation.explanation import Explanation
from captum_tgrad.visualization.walkthrough.document import walkthrough_page
from captum_tgrad.visualization.walkthrough.numbers import View


def page_of(explanation: Explanation, name: str) -> str:
    """The page; ``name`` is that of the image. Raises ValueError if the terms were not kept."""
    if explanation.decomposition is None:
        raise ValueError(
            "the explanation has no terms: keep them with explain(..., keep_terms=True), or with"
            " rival=True, which also compares two classes"
        )
    target = explanation.target
    about = [name, f"T-Grad of {explanation.model}" if explanation.model else "T-Grad"]
    about.append(f"probability of {target.name} {target.probability:.1%}")
    if explanation.rival is not None:
        other = explanation.rival.prediction
        about.append(f"of {other.name} {other.probability:.1%}")
    if explanation.aggregation != "paper":
        about.append(
            f'the map here is that of aggregation "paper", not "{explanation.aggregation}"'
        )
    if explanation.seen is not None and explanation.cut_away > 0:
        about.append(f"{explanation.cut_away:.0%} of the image is cropped")
    return walkthrough_page(
        _views(explanation, explanation.decomposition),
        _photo(explanation),
        title=f"Why {target.name}?",
        about=" \N{MIDDLE DOT} ".join(filter(None, about)),
    )


def frame_of(page: str) -> str:
    """A page in an isolated frame of another page."""
    style = "width: 100%; height: 66rem; border: 0; border-radius: 8px"
    return (
        f'<iframe srcdoc="{escape(page)}" sandbox="allow-scripts" title="A T-Grad explanation"'
        f' loading="lazy" style="{style}"></iframe>'
    )


def _views(explanation: Explanation, decomposition: Decomposition) -> list[View]:
    one = explanation.target.name
    rival = explanation.rival
    if rival is None:
        return [_view_of_class(one, decomposition)]
    other = rival.prediction.name
    difference = View(
        f"{one}, not {other}",
        rival.difference,
        output=f"the logit of {one} minus that of {other}",
        speaks_for=f"for {one}",
        speaks_against=f"for {other}",
    )
    of_rival = _view_of_class(other, rival.decomposition)
    return [_view_of_class(one, decomposition), of_rival, difference]


def _view_of_class(name: str, decomposition: Decomposition) -> View:
    return View(
        name,
        decomposition,
        output=f"the logit of {name}",
        speaks_for=f"for {name}",
        speaks_against=f"against {name}",
    )


def _photo(explanation: Explanation) -> Image:
    """The part of the image that the network saw, in full resolution."""
    if explanation.original is None or explanation.seen is None:
        return explanation.image
    return explanation.original.crop(explanation.seen)
