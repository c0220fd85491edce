"""Methods side by side: every map where it belongs, and scales that are what they say."""

import numpy as np
import pytest
import torch

from captum_tgrad.visualization import methods_figure
from tests.visualization.networks import images, titles


def _drawn(axes) -> np.ndarray:
    return np.asarray(axes.images[-1].get_array())


def _panels(figure) -> list:
    return [axes for axes in figure.axes if axes.images and not axes.get_label()]


MAPS = {
    "one": torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1, 1).expand(3, 1, 8, 8),
    "other": torch.full((3, 3, 8, 8), 8.0),
}


def test_rows_are_pictures_and_columns_are_methods():
    figure = methods_figure(images(3), MAPS, labels=["a", "b", "c"], overlay=False)
    panels = _panels(figure)
    assert len(panels) == 9
    assert titles(figure) == ["image", "one", "other"]
    assert [axes.get_ylabel() for axes in panels if axes.get_ylabel()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "labels", [torch.tensor([3, 1, 4]), np.array([3, 1, 4]), [3, 1, 4], ("3", "1", "4")]
)
def test_labels_may_be_the_targets(labels):
    figure = methods_figure(images(3), MAPS, labels=labels)
    assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == ["3", "1", "4"]


@pytest.mark.parametrize(
    ("scale", "one", "other"),
    [
        ("map", [1, 1, 1], [1, 1, 1]),
        ("method", [0.25, 0.5, 1], [1, 1, 1]),
        ("shared", [1 / 24, 2 / 24, 4 / 24], [1, 1, 1]),
    ],
)
def test_maps_share_a_scale_where_they_are_told_to(scale, one, other):
    figure = methods_figure(images(3), MAPS, scale=scale, overlay=False)
    panels = _panels(figure)
    for column, expected in ((1, one), (2, other)):
        drawn = [_drawn(panels[3 * row + column]).max() for row in range(3)]
        np.testing.assert_allclose(drawn, expected)


def test_an_overlay_lies_over_the_grey_picture():
    picture = images(1)
    overlay = _panels(methods_figure(picture, {"one": torch.rand(1, 1, 8, 8)}))[1]
    below, above = overlay.images
    np.testing.assert_allclose(below.get_array(), picture[0].mean(0), atol=1e-6)
    assert 0 < above.get_alpha() < 1
    assert len(_panels(methods_figure(picture, MAPS_OF_ONE, overlay=False))[1].images) == 1


MAPS_OF_ONE = {f"method {number}": torch.rand(1, 1, 8, 8) for number in range(12)}


def test_many_methods_go_on_below():
    figure = methods_figure(images(1), MAPS_OF_ONE)
    assert titles(figure) == ["image", *MAPS_OF_ONE]
    lines = {axes.get_subplotspec().rowspan.start for axes in _panels(figure)}
    assert lines == {0, 1, 2}


def test_signed_maps_have_diverging_colors_and_a_bar_of_their_own():
    signed = {"signed": torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)}
    panels = _panels(methods_figure(images(1), {**signed, "plain": torch.rand(1, 1, 8, 8)}))
    assert panels[1].images[-1].get_clim() == (-1, 1)
    assert panels[2].images[-1].get_clim() == (0, 1)
    figure = methods_figure(images(1), signed)
    (bar,) = (axes for axes in figure.axes if axes.get_xlabel())
    assert "against the class" in bar.get_xlabel()


def test_maps_with_nothing_to_compare_say_so():
    maps = {"zeros": torch.zeros(1, 1, 8, 8), "negative": -torch.rand(1, 1, 8, 8) - 1}
    maps["constant"] = torch.ones(1, 1, 2, 2)
    panels = _panels(methods_figure(images(1), maps))
    notes = [axes.texts[0].get_text() for axes in panels[1:]]
    assert notes == ["0 everywhere", "nothing above 0", "the same everywhere"]


def test_bad_arguments():
    with pytest.raises(TypeError, match="must be a dict"):
        methods_figure(images(1), torch.ones(1, 1, 8, 8))
    with pytest.raises(ValueError, match="attributions is empty"):
        methods_figure(images(1), {})
    with pytest.raises(ValueError, match="scale must be"):
        methods_figure(images(3), MAPS, scale="row")
    with pytest.raises(
        ValueError, match=r"attributions\['one'\] must have one entry per image, got 3 for 1"
    ):
        methods_figure(images(1), MAPS)
    with pytest.raises(ValueError, match="labels must have one entry per image, got 1 for 3"):
        methods_figure(images(3), MAPS, labels=["a"])
    with pytest.raises(ValueError, match=r"attributions\['one'\] has values that are not finite"):
        methods_figure(images(1), {"one": torch.full((1, 1, 8, 8), torch.nan)})
