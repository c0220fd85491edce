"""An explanation as an HTML page, also inside a notebook."""

from __future__ import annotations

from html import escape

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
    if explanation.cut_away > 0:
        about.append(f"{explanation.cut_away:.0%} of the image is cropped")
    # In full resolution, if the map covers just the part of the image that the network saw.
    whole, seen = explanation.original, explanation.seen
    has_border = explanation.map_of_seen.shape != explanation.attribution.shape
    return walkthrough_page(
        _views(explanation, explanation.decomposition),
        explanation.image if whole is None or seen is None or has_border else whole.crop(seen),
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
    """The target's logit and, if there is a rival, the rival's and the difference of the two."""
    one, rival = explanation.target.name, explanation.rival
    views = [View(one, decomposition, f"the logit of {one}", f"for {one}", f"against {one}")]
    if rival is not None:
        other = rival.prediction.name
        of_rival = (f"the logit of {other}", f"for {other}", f"against {other}")
        difference = (f"the logit of {one} minus that of {other}", f"for {one}", f"for {other}")
        views.append(View(other, rival.decomposition, *of_rival))
        views.append(View(f"{one}, not {other}", rival.difference, *difference))
    return views
