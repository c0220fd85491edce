"""The contribution of each layer to the output, with its map."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_tgrad.decomposition.decomposition import Decomposition
from captum_tgrad.decomposition.maps.combine import Sign
from captum_tgrad.decomposition.term import Term
from captum_tgrad.visualization.image_arrays import Array, Images, Numbers, image_of_sample
from captum_tgrad.visualization.layout import SMALL, WIDTH, stacked_parts, wrapped, write_title
from captum_tgrad.visualization.map_values import as_maps, limit_of, note_on
from captum_tgrad.visualization.panels import BAR_HEIGHT, color_bars, draw_map, draw_picture
from captum_tgrad.visualization.term_scores import choose_terms, draw_scores

_COLUMNS = 5
_ROW_HEIGHT = 2.65
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

    Each map is labeled with the number of its bar, the term's name and score, and the score as a
    share of the output's magnitude. With the residual, the shares of all terms add up to 100%, or
    to -100% if the output is negative. Each map has its own color scale; the scores show the
    weights. Terms without a position on the image, such as the bias of a classifier, are spread
    evenly.

    Source: Tran, Mai, Le and Le, "T-Grad", Fig. 2.

    Args:
        decomposition: The result of ``TGradAttribution(model).decompose`` for images.
        images: The explained batch: ``(N, C, H, W)``, or ``(C, H, W)`` for one image, or
            Pillow images; see ``as_images``. None: maps only.
        sample: The index of the sample in the batch.
        terms: The number of terms to draw (the input's and the largest others), or their names.
        sign: ``"positive"``: the evidence for the class, of the terms with the largest scores.
            ``"negative"``: the evidence against it, of the terms with the smallest scores.
            ``"all"``: the difference of the two, of the terms with the largest absolute scores.
        title: The title of the figure. None: the output.
        mean: Per-channel mean used for normalization.
        std: Per-channel standard deviation used for normalization.

    Raises:
        TypeError: ``decomposition`` or ``terms`` has the wrong type.
        ValueError: The sample, a term or ``sign`` is unknown, ``terms`` is empty, or the inputs are
            not images.

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
    if not chosen:
        raise ValueError("terms is empty: name at least one term")
    picture = None
    if images is not None:
        picture = image_of_sample(images, sample, len(decomposition.output), mean, std)
    size = _size_of(decomposition) if picture is None else (picture.shape[0], picture.shape[1])
    count = len(chosen) + (picture is not None)
    columns = min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    heights = [rows * _ROW_HEIGHT, BAR_HEIGHT, _SCORES_HEIGHT]
    upper, middle, lower = stacked_parts(WIDTH, heights)
    panels: list[Axes] = list(upper.subplots(rows, columns, squeeze=False).flatten())
    for axes in panels[count:]:
        axes.remove()
    if picture is not None:
        axes = panels.pop(0)
        draw_picture(axes, picture)
        axes.set_title("image", fontsize=SMALL)
    output = float(decomposition.output[sample])
    for number, (axes, index) in enumerate(zip(panels, chosen, strict=False), 1):
        term = decomposition.terms[index]
        (values,) = as_maps(_evidence(term, sample, sign), [size], "decomposition")
        draw_map(axes, values / limit_of([values]), signed=sign == "all")
        axes.set_title(_heading(number, term, sample, output, values), fontsize=SMALL)
    sides = {"positive": "for the class, ", "negative": "against the class, ", "all": ""}
    color_bars(middle, [sign == "all"], sides[sign] + "scaled to the 98th percentile of each map")
    draw_scores(lower.subplots(), decomposition, sample, chosen)
    write_title(upper.figure, title or f"output {output:+.3f}")
    return upper.figure


def _size_of(decomposition: Decomposition) -> tuple[int, int]:
    """Height and width of the input."""
    shape = decomposition.inputs[0].positive.shape
    if len(shape) != 4:
        raise ValueError(
            f"decomposition has maps of shape {tuple(shape)}, but only maps of images (N, 1, H, W)"
            " can be drawn: use term_scores_figure for the scores"
        )
    return shape[2], shape[3]


def _evidence(term: Term, sample: int, sign: Sign) -> Tensor:
    """(1, 1, h, w) at the term's own resolution; one cell if it has no position."""
    positive, negative = term.positive[sample], term.negative[sample]
    evidence = {"positive": positive, "negative": negative, "all": positive - negative}[sign]
    return evidence[None] if evidence.dim() == 3 else evidence.sum().reshape(1, 1, 1, 1)


def _heading(number: int, term: Term, sample: int, output: float, values: Array) -> str:
    score = float(term.score[sample])
    share = f", {score / abs(output):+.1%} of the output" if output else ""
    note = note_on(values) if term.positive.dim() == 4 else "no position: spread evenly"
    return f"{number}  {wrapped(term.name, _NAME_WIDTH, lines=1)}\n{score:+.3f}{share}" + (
        f"\n({note})" if note else ""
    )
