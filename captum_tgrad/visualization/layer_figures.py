"""The path through a network: what each of its layers adds to the output, and where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum_tgrad.decomposition.combine import Sign
from captum_tgrad.decomposition.term import Term
from captum_tgrad.decomposition.terms import Decomposition
from captum_tgrad.visualization.image_arrays import image_of_sample
from captum_tgrad.visualization.map_values import as_maps, finding, limit_of, scaled
from captum_tgrad.visualization.panels import (
    SMALL,
    color_bars,
    draw_map,
    draw_picture,
    new_figure,
    wrapped,
    write_title,
)
from captum_tgrad.visualization.term_choice import choose_terms
from captum_tgrad.visualization.term_scores import draw_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_tgrad.visualization.image_arrays import Array, Images, Numbers

_WIDTH = 10.5
_COLUMNS = 5
_ROW_HEIGHT = 2.65
_BAR_HEIGHT = 0.75
_SCORES_HEIGHT = 2.8
_NAME_WIDTH = 26


def layers_figure(
    decomposition: Decomposition,
    images: Images | None = None,
    sample: int = 0,
    *,
    terms: int | Sequence[str] = 9,
    sign: Sign = "positive",
    title: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Figure:
    r"""Draws the maps of the terms by layer, and the scores of all terms in forward order.

    Each map has the number of its bar, its term's name and score, and the score as a share of the
    output's size: over all terms, the shares and that of the residual add up to 100%, or to -100%
    where the output is negative. Every map has a scale of its own, as the scores say how much each
    weighs. A term with no place on the image, such as the bias of a classifier, is spread evenly.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 2.

    Args:
        decomposition: As from ``TGradAttribution(model).decompose``, of images.
        images: What was explained, the same batch: ``(N, C, H, W)``, or ``(C, H, W)`` for one, or
            images of Pillow; see ``as_images``. None: the maps alone.
        sample: Which of the batch.
        terms: How many terms to draw: that of the input, and the largest others; or their names.
        sign: ``"positive"``: the evidence for the class, and the largest scores. ``"negative"``:
            the evidence against it, and the smallest. ``"all"``: the difference of the two, and
            the scores furthest from 0.
        title: Stands over the figure. None: the output.
        mean: What was subtracted of each channel when the images were normalized.
        std: What each channel was divided by.

    Returns:
        A figure, which a notebook shows.

    Raises:
        TypeError: ``decomposition`` or ``terms`` is of the wrong kind.
        ValueError: There is no such sample or term, ``sign`` is unknown, or the inputs are no
            images.

    Example:
        >>> import torch
        >>> from captum_tgrad import TGradAttribution
        >>> from captum_tgrad.visualization import layers_figure
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 5)
        ... )
        >>> image = torch.rand(1, 3, 8, 8)
        >>> figure = layers_figure(TGradAttribution(model).decompose(image, target=1), image)
        >>> [axes.get_title().split("\n")[0] for axes in figure.axes[:4]]
        ['image', '1  input', '2  0', '3  2']
    """
    chosen = choose_terms(decomposition, sample, terms, sign)
    picture = None
    if images is not None:
        picture = image_of_sample(images, sample, len(decomposition.output), mean, std)
    size = _size_of(decomposition) if picture is None else (picture.shape[0], picture.shape[1])
    first = 0 if picture is None else 1
    count = len(chosen) + first
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    heights = [rows * _ROW_HEIGHT, _BAR_HEIGHT, _SCORES_HEIGHT]
    figure = new_figure(_WIDTH, sum(heights))
    parts: Any = figure.subfigures(3, 1, height_ratios=heights)
    upper, middle, lower = parts
    panels: list[Axes] = list(upper.subplots(rows, columns, squeeze=False).flatten())
    for axes in panels[count:]:
        axes.remove()
    if picture is not None:
        draw_picture(panels[0], picture)
        panels[0].set_title("image", fontsize=SMALL)
    output = float(decomposition.output[sample])
    for number, index in enumerate(chosen, 1):
        term = decomposition.terms[index]
        axes = panels[number - 1 + first]
        (values,) = as_maps(_evidence(term, sample, sign), [size])
        draw_map(axes, scaled(values, limit_of([values])), signed=sign == "all")
        axes.set_title(
            f"{number}  {wrapped(term.name, _NAME_WIDTH, lines=1)}\n"
            + _weight(term, sample, output)
            + _note(values, term),
            fontsize=SMALL,
        )
    sides = {"positive": "for the class, ", "negative": "against the class, ", "all": ""}
    color_bars(middle, [sign == "all"], sides[sign] + "scaled to the 98th percentile of each map")
    draw_scores(lower.subplots(), decomposition, sample, chosen)
    write_title(figure, title or f"output {output:+.3f}")
    return figure


def _size_of(decomposition: Decomposition) -> tuple[int, int]:
    """Height and width of the input."""
    shape = decomposition.inputs[0].positive.shape
    if len(shape) != 4:
        raise ValueError(
            f"decomposition is of inputs whose maps have shape {tuple(shape)}, and only those of"
            " images (N, 1, H, W) can be drawn: term_scores_figure draws the scores"
        )
    return shape[2], shape[3]


def _evidence(term: Term, sample: int, sign: Sign) -> Tensor:
    """(1, 1, h, w) at the term's own resolution; one place where it has none on the image."""
    positive, negative = term.positive[sample], term.negative[sample]
    evidence = {"positive": positive, "negative": negative, "all": positive - negative}[sign]
    return evidence[None] if evidence.dim() == 3 else evidence.sum().reshape(1, 1, 1, 1)


def _weight(term: Term, sample: int, output: float) -> str:
    score = float(term.score[sample])
    share = f", {score / abs(output):+.1%} of the output" if output else ""
    return f"{score:+.3f}{share}"


def _note(values: Array, term: Term) -> str:
    if term.positive.dim() != 4:
        return "\n(no place: spread evenly)"
    note = finding(values)
    return f"\n({note})" if note else ""
