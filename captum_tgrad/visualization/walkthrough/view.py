"""What a page can be switched to: one output and its terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captum_tgrad.decomposition.terms import Decomposition


@dataclass(frozen=True)
class View:
    """An output that a page explains.

    Attributes:
        name: What the switch says, such as ``"espresso"``.
        decomposition: The terms of the output, of one image input.
        output: What the output is, such as ``"the logit of espresso"``.
        speaks_for: What positive evidence says, such as ``"for espresso"``.
        speaks_against: What negative evidence says.
    """

    name: str
    decomposition: Decomposition
    output: str = "the output"
    speaks_for: str = "for"
    speaks_against: str = "against"


def check_views(views: Sequence[View], sample: int) -> tuple[int, int]:
    """Makes sure that a page can be made of them.

    Returns:
        Height and width of the input.

    Raises:
        TypeError: One of them is no ``View``, or has no decomposition.
        ValueError: There are none, they are of different inputs or of no images, there is no such
            sample, or a score is not finite.
    """
    if not views:
        raise ValueError("views is empty: give at least one")
    sizes = set()
    for view in views:
        if not isinstance(view, View) or not isinstance(view.decomposition, Decomposition):
            raise TypeError(
                f"views must hold View(name, decomposition) with a Decomposition, got {view!r}"
            )
        shape = view.decomposition.inputs[0].positive.shape
        if len(shape) != 4 or len(view.decomposition.inputs) != 1:
            raise ValueError(
                f"the view {view.name!r} explains {len(view.decomposition.inputs)} inputs with maps"
                f" of shape {tuple(shape)}: a page shows one input of images (N, C, H, W)"
            )
        if not 0 <= sample < shape[0]:
            raise ValueError(f"sample is {sample}: there are {shape[0]} samples, counted from 0")
        if not all(bool(term.score[sample].isfinite()) for term in view.decomposition):
            raise ValueError(f"the view {view.name!r} has scores that are not finite")
        sizes.add((shape[2], shape[3]))
    if len(sizes) > 1:
        raise ValueError(f"the views are of inputs of different sizes: {sorted(sizes)}")
    return next(iter(sizes))
