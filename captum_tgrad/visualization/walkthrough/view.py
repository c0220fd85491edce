"""A view of a page: one output and its terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captum_tgrad._support.arguments import check_sample
from captum_tgrad.decomposition.terms import Decomposition


@dataclass(frozen=True)
class View:
    """An output that a page explains.

    Attributes:
        name: The label of the view, such as ``"espresso"``.
        decomposition: The terms of the output, for one image input.
        output: A name for the output, such as ``"the logit of espresso"``.
        speaks_for: The label of positive evidence, such as ``"for espresso"``.
        speaks_against: The label of negative evidence.
    """

    name: str
    decomposition: Decomposition
    output: str = "the output"
    speaks_for: str = "for"
    speaks_against: str = "against"


def check_views(views: Sequence[View], sample: int) -> tuple[int, int]:
    """The height and width of the input that all views of a page explain.

    Raises TypeError or ValueError for views that cannot share a page.
    """
    if not views:
        raise ValueError("views is empty: pass at least one")
    sizes = set()
    for view in views:
        if not isinstance(view, View) or not isinstance(view.decomposition, Decomposition):
            raise TypeError(
                f"views must hold View(name, decomposition) with a Decomposition, got {view!r}"
            )
        shape = view.decomposition.inputs[0].positive.shape
        if len(shape) != 4 or len(view.decomposition.inputs) != 1:
            raise ValueError(
                f"view {view.name!r} explains {len(view.decomposition.inputs)} inputs with maps of"
                f" shape {tuple(shape)}: a page supports one input of images (N, C, H, W)"
            )
        check_sample(sample, shape[0])
        if not all(bool(term.score[sample].isfinite()) for term in view.decomposition):
            raise ValueError(f"the view {view.name!r} has scores that are not finite")
        sizes.add((shape[2], shape[3]))
    if len(sizes) > 1:
        raise ValueError(f"views have inputs of different sizes: {sorted(sizes)}")
    return next(iter(sizes))
