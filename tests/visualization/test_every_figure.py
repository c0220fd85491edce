"""What is true of every figure: nothing is clipped or overlaps; nothing of the user's changes."""

import itertools

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from captum_tgrad import TGradAttribution
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.visualization import (
    cascade_figure,
    curves_figure,
    explanation_figure,
    layers_figure,
    methods_figure,
    similarity_figure,
    term_scores_figure,
)
from tests.visualization.networks import decomposition, images, small_network

LONG = "a class name that is rather long, with commas, as those of ImageNet are, " * 2
MAPS = {f"A method with a long name, {number}": torch.rand(2, 1, 8, 8) for number in range(9)}


def _explanation():
    boxes = torch.tensor([[1.0, 1.0, 5.0, 7.0]] * 2)
    return explanation_figure(
        images(), torch.randn(2, 3, 8, 8), class_name=[LONG, "cup"], boxes=boxes
    )


def _layers():
    return layers_figure(decomposition(), images(), sign="all", title=LONG)


def _term_scores():
    return term_scores_figure(decomposition(), highlight=3, title=LONG)


def _methods():
    return methods_figure(images(), MAPS, labels=[LONG, "cup"], title=LONG)


def _curves():
    results = insertion_deletion(
        small_network(), images(), MAPS, 0.0, target=1, n_steps=8, return_curves=True
    )
    few = dict(itertools.islice(MAPS.items(), 2))
    return curves_figure(results, inputs=images(), attributions=few, baselines=0.0, title=LONG)


def _steps():
    return cascading_randomization(small_network(), TGradAttribution, images(), target=1)


def _cascade():
    return cascade_figure(_steps(), images(), labels=[LONG, "cup"], title=LONG)


def _similarity():
    return similarity_figure({"one": list(_steps()), "other": list(_steps())}, title=LONG)


FIGURES = [_explanation, _layers, _term_scores, _methods, _curves, _cascade, _similarity]

pytestmark = pytest.mark.filterwarnings("ignore:The baseline keeps half:UserWarning")


def _texts(figure) -> list:
    """All that is written, without the numbers at axes."""
    found = []
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        legend = axes.get_legend()
        found += [] if legend is None else legend.get_texts()
    titles = [figure, *figure.subfigs]
    found += [part._suptitle for part in titles if part._suptitle is not None]
    return [text for text in found if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("make", FIGURES)
def test_nothing_is_clipped_or_overlaps_and_nothing_else_changes(make):
    settings, windows = dict(matplotlib.rcParams), pyplot.get_fignums()
    figure = make()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert dict(matplotlib.rcParams) == settings
    assert pyplot.get_fignums() == windows
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in _texts(figure)]
    width, height = canvas.get_width_height()
    for text, box in boxes:
        assert min(box.x0, box.y0) >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (one, box), (other, other_box) in itertools.combinations(boxes, 2):
        # Boxes that share a border do not overlap.
        assert not box.padded(-1.5).overlaps(other_box.padded(-1.5)), (one, other)


@pytest.mark.parametrize("make", FIGURES)
def test_a_dark_style_is_legible_and_images_are_upright_in_any_style(make):
    with pyplot.style.context(["dark_background", {"image.origin": "lower"}]):
        figure = make()
        background = np.mean(to_rgb(figure.get_facecolor()))
        texts = [text for text in _texts(figure) if text.get_bbox_patch() is None]
    assert texts
    for text in texts:
        assert abs(np.mean(to_rgb(text.get_color())) - background) > 0.5, text
    for image in (image for axes in figure.axes for image in axes.images):
        assert image.origin == "upper"


def test_methods_may_be_numbered():
    maps = {number: images() for number in (1, 2)}
    assert [axes.get_title() for axes in methods_figure(images(), maps).axes[1:3]] == ["1", "2"]
    results = insertion_deletion(
        small_network(), images(), maps, 0.0, target=1, n_steps=4, return_curves=True
    )
    figure = curves_figure(results, inputs=images(), attributions=maps, baselines=0.0)
    assert {axes.get_ylabel() for axes in figure.axes if axes.images} == {"1", "2", ""}
    steps = list(_steps())
    legend = similarity_figure({1: steps, 2: steps}).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["1", "2"]


def test_methods_whose_names_are_one_string():
    maps = {1: images(), "1": images()}
    with pytest.raises(ValueError, match="attributions has several methods of one name among"):
        methods_figure(images(), maps)
    steps = list(_steps())
    with pytest.raises(ValueError, match="steps has several methods of one name among"):
        similarity_figure({1: steps, "1": steps})
