"""The figure shows the image, the map and the one over the other, whatever the map is like."""

import warnings

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

from captum_tgrad.visualization import explanation_figure, methods_figure


def _picture(width: int = 6, height: int = 4) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _panels(figure):
    """Returns the three axes that show something; the others are color bars."""
    return [axis for axis in figure.axes if axis.get_title()]


def _heat_map(figure) -> np.ndarray:
    return np.asarray(_panels(figure)[1].images[0].get_array())


def test_figure_shows_the_picture_and_the_map():
    attribution = torch.zeros(4, 6)
    attribution[1, 2] = 3.0
    figure = explanation_figure(_picture(), attribution, title="cup (968)")
    picture, heat_map, overlay = _panels(figure)
    np.testing.assert_allclose(picture.images[0].get_array(), np.asarray(_picture()) / 255)
    assert np.array_equal(_heat_map(figure), (attribution / 3).numpy())
    assert len(overlay.images) == 2
    assert figure.get_suptitle() == "cup (968)"
    assert heat_map.get_title() == "T-Grad"


def test_figure_cuts_off_the_top_two_percent():
    # 98 pixels of 1 hold 98% of the sum with one of 2: captum scales by the value at 98%.
    attribution = torch.tensor([*[1.0] * 98, 2.0, 0.0]).reshape(10, 10)
    scaled = _heat_map(explanation_figure(_picture(10, 10), attribution)).flatten()
    np.testing.assert_allclose(scaled, [*[1.0] * 99, 0.0])


def test_figure_sums_channels():
    channels = torch.stack([torch.full((4, 6), 0.25), torch.full((4, 6), 0.75)])
    channels[:, 0, 0] = 0
    scaled = _heat_map(explanation_figure(_picture(), channels))
    assert scaled[0, 0] == 0
    np.testing.assert_allclose(scaled.flatten()[1:], 1)


def test_figure_of_a_signed_map_runs_from_minus_one_to_one():
    attribution = torch.tensor([[-2.0, 0.0, 2.0]])
    figure = explanation_figure(_picture(3, 1), attribution)
    np.testing.assert_allclose(_heat_map(figure), [[-1, 0, 1]])
    assert _panels(figure)[1].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("value", "label"),
    [
        (0.0, "T-Grad (0 everywhere)"),
        (1.0, "T-Grad (the same everywhere)"),
        (1e-30, "T-Grad (the same everywhere)"),
        (1e30, "T-Grad (the same everywhere)"),
        (-1.0, "T-Grad (below 0, the same everywhere)"),
    ],
)
def test_figure_of_a_constant_map(tmp_path, value, label):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = explanation_figure(_picture(), torch.full((4, 6), value), title="cup")
        figure.savefig(tmp_path / "figure.png")
    assert Image.open(tmp_path / "figure.png").width > 600
    assert _panels(figure)[1].get_title() == label


def test_figure_of_zeros_is_drawn_in_the_color_of_zero():
    zeros = _panels(explanation_figure(_picture(), torch.zeros(4, 6)))[1].images[0]
    one_pixel = torch.zeros(4, 6)
    one_pixel[0, 0] = 1
    some = _panels(explanation_figure(_picture(), one_pixel))[1].images[0]
    drawn = zeros.to_rgba(zeros.get_array())
    np.testing.assert_allclose(drawn, np.broadcast_to(some.to_rgba(0.0), drawn.shape))


@pytest.mark.parametrize("color", ["black", "white", (1, 1, 1)])
def test_figure_of_a_flat_picture_keeps_its_color(color):
    picture = Image.new("RGB", (6, 4), color)
    figure = explanation_figure(picture, torch.ones(4, 6))
    np.testing.assert_allclose(_panels(figure)[0].images[0].get_array(), np.asarray(picture) / 255)


def test_a_probability_may_be_off_by_rounding_and_nan_where_the_output_is():
    for probability, text in ((1 + 1e-6, "100.0%"), (float("nan"), "nan%")):
        figure = explanation_figure(_picture(), torch.ones(4, 6), probability=probability)
        assert figure.get_suptitle() == f"probability {text}"


def test_figure_is_no_window():
    before = pyplot.get_fignums()
    explanation_figure(_picture(), torch.ones(4, 6))
    assert pyplot.get_fignums() == before


def test_figure_refuses_a_map_of_another_size():
    with pytest.raises(
        ValueError, match=r"shape \(6, 4\), but .* 4 pixels high.* Classifier\.crop"
    ):
        explanation_figure(_picture(), torch.ones(6, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figure_refuses_values_that_are_not_finite(value):
    with pytest.raises(ValueError, match="not finite"):
        explanation_figure(_picture(), torch.full((4, 6), value))


def test_figure_of_a_map_with_nothing_for_the_class():
    figure = explanation_figure(_picture(3, 1), torch.tensor([[-2.0, 0.0, -1.0]]))
    assert _panels(figure)[1].get_title() == "T-Grad (nothing above 0)"
    np.testing.assert_allclose(_heat_map(figure), [[-1, 0, -0.5]])


def test_figure_says_what_is_known_in_its_title():
    figure = explanation_figure(
        _picture(),
        torch.ones(4, 6),
        class_name="espresso",
        probability=torch.tensor([0.951]),
        residual=torch.tensor([-2e-6]),
    )
    assert figure.get_suptitle() == "espresso, probability 95.1%, residual -2.0e-06"
    for probability in (np.float32(0.1), np.array(0.1), np.array([0.1])):
        figure = explanation_figure(_picture(), torch.ones(4, 6), probability=probability)
        assert figure.get_suptitle() == "probability 10.0%"


def test_figure_of_a_batch_has_a_row_for_each_sample():
    images, maps = torch.rand(2, 3, 4, 6), torch.rand(2, 3, 4, 6)
    figure = explanation_figure(images, maps, class_name=["cup", "cat"], probability=[0.5, 0.25])
    assert [row.get_suptitle() for row in figure.subfigs] == [
        "cup, probability 50.0%",
        "cat, probability 25.0%",
    ]
    for row, image in zip(figure.subfigs, images, strict=True):
        drawn = np.asarray(_panels(row)[0].images[0].get_array())
        np.testing.assert_allclose(drawn, image.permute(1, 2, 0), atol=1 / 255)


def test_figure_of_maps_that_ask_for_gradients_and_of_grey_pictures():
    map_of_the_layer = torch.rand(1, 1, 2, 3, requires_grad=True)
    figure = explanation_figure(torch.rand(1, 1, 4, 6, requires_grad=True), map_of_the_layer)
    assert _heat_map(figure).shape == (4, 6)


def test_figure_refuses_another_number_of_titles_or_maps():
    with pytest.raises(ValueError, match="class_name must have one entry per image, got 2 for 1"):
        explanation_figure(_picture(), torch.ones(4, 6), class_name=["cup", "cat"])
    with pytest.raises(ValueError, match="attribution must have one entry per image, got 2 for 1"):
        explanation_figure(_picture(), torch.ones(2, 3, 4, 6))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(2, 400), (400, 2)])
def test_a_panorama_has_room_for_titles(shape, tmp_path):
    figure = explanation_figure(torch.rand(3, *shape), torch.rand(shape), class_name="cup")
    figure.savefig(tmp_path / "figure.png")  # matplotlib warns if it has none


def test_figure_leaves_the_settings_of_matplotlib_as_they_are():
    before = dict(pyplot.rcParams)
    explanation_figure(_picture(), torch.ones(4, 6))
    assert dict(pyplot.rcParams) == before


def _marks(axes):
    """The corners of the boxes, and where the peak is marked."""
    from matplotlib.patches import Rectangle

    boxes = [patch.get_bbox().extents.tolist() for patch in axes.patches]
    assert all(isinstance(patch, Rectangle) for patch in axes.patches)
    assert all(mark.get_path_effects() for mark in (*axes.patches, *axes.lines))  # an outline
    peaks = [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines]
    return boxes, peaks


def test_boxes_and_the_peak_are_where_the_metrics_see_them():
    attribution = torch.zeros(4, 6)
    attribution[1, 4] = 3.0
    attribution[3, 0] = 2.0
    figure = explanation_figure(_picture(), attribution, boxes=[[[2, 1, 5, 3], [0, 0, 6, 4]]])
    picture, heat_map, overlay = _panels(figure)
    # Pixels 2 to 4 and 1 to 2, whose middles are at whole numbers.
    wanted = [[1.5, 0.5, 4.5, 2.5], [-0.5, -0.5, 5.5, 3.5]]
    assert _marks(picture) == (wanted, [])
    for axes in (heat_map, overlay):
        assert _marks(axes) == (wanted, [(4, 1)])
        assert axes.get_xlim() == (-0.5, 5.5)
        assert axes.get_ylim() == (3.5, -0.5)
    assert overlay.get_title() == "map over image (+: maximum)"
    assert _marks(_panels(explanation_figure(_picture(), attribution))[1]) == ([], [])


def test_every_picture_of_a_batch_has_its_boxes():
    boxes = [torch.tensor([[0.0, 0.0, 3.0, 2.0]]), torch.empty(0, 4)]
    maps = torch.stack([torch.eye(4, 6), torch.ones(4, 6)])[:, None]
    figure = explanation_figure([_picture(), _picture()], maps, boxes=boxes)
    first, second = (_marks(_panels(figure)[at]) for at in (1, 4))
    assert (len(first[0]), len(first[1])) == (1, 1)
    assert second == ([], [])  # no box, and a constant map has no peak
    assert _panels(figure)[5].get_title() == "map over image"
    one_each = torch.tensor([[0.0, 0.0, 3.0, 2.0], [1.0, 1.0, 2.0, 2.0]])
    figure = explanation_figure([_picture(), _picture()], maps, boxes=one_each)
    assert _marks(_panels(figure)[3])[0] == [[0.5, 0.5, 1.5, 1.5]]


@pytest.mark.parametrize(
    ("boxes", "error", "message"),
    [
        ([], ValueError, "boxes must have one entry per image, got 0 for 1"),
        ("box", TypeError, "boxes must be a tensor"),
        ([[[0, 0, 99, 2]]], ValueError, r"boxes\[0\] has a box .* height 4 and width 6"),
        ([[[3, 0, 1, 2]]], ValueError, r"boxes\[0\] .* ends before it starts"),
    ],
)
def test_boxes_that_do_not_fit(boxes, error, message):
    with pytest.raises(error, match=message):
        explanation_figure(_picture(), torch.eye(4, 6), boxes=boxes)


@pytest.mark.parametrize(("size", "shape"), [((400, 600), (224, 224)), ((224, 224), (40, 80))])
def test_a_map_of_a_crop_over_the_whole_photo_is_warned_of(size, shape):
    image, attribution = torch.rand(3, *size), torch.rand(shape)
    with pytest.warns(UserWarning, match="attribution has shape .* is stretched"):
        explanation_figure(image, attribution)
    with pytest.warns(UserWarning, match=r"attributions\['a'\] has .* is stretched"):
        methods_figure(image, {"a": attribution[None, None]})


@pytest.mark.parametrize(("size", "shape"), [((400, 600), (7, 10)), ((30, 45), (2, 4))])
def test_the_rounding_of_a_coarse_map_is_no_stretching(size, shape, recwarn):
    explanation_figure(torch.rand(3, *size), torch.rand(shape))
    explanation_figure(torch.rand(3, 9, 18), torch.rand(9, 9), seen=(0, 0, 9, 9))
    assert not list(recwarn)
