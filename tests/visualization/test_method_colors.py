"""A method has one color, wherever it is drawn."""

from itertools import combinations

import pytest
import torch
from matplotlib.colors import to_hex, to_rgb

from captum_tgrad.evaluation import METHODS
from captum_tgrad.metrics import insertion_deletion
from captum_tgrad.visualization import curves_figure, metrics_figure, seconds_figure
from captum_tgrad.visualization.evaluation_figures import plain
from captum_tgrad.visualization.method_colors import method_styles
from tests.evaluation.test_verdict import TITLES, summary_of
from tests.visualization.networks import images, small_network

BUILT_IN = [method.title for method in METHODS.values()]


def _color(method):
    return method_styles([method])[method]["color"]


def test_every_built_in_method_has_a_color_of_its_own_by_title_and_by_name():
    colors = [_color(title) for title in BUILT_IN]
    for one, other in combinations(colors, 2):
        distance = sum((a - b) ** 2 for a, b in zip(to_rgb(one), to_rgb(other), strict=True))
        assert distance**0.5 > 0.15, (one, other)
    assert [_color(name) for name in METHODS] == colors


def test_what_is_beside_a_method_does_not_change_its_color():
    alone = {title: method_styles([title])[title] for title in BUILT_IN}
    assert method_styles(["one of mine", *BUILT_IN[::-1], "another"]).items() >= alone.items()
    mine = method_styles([f"mine {number}" for number in range(20)])
    assert len({(each["color"], each["linestyle"]) for each in mine.values()}) == 20


@pytest.mark.filterwarnings("ignore:The baseline keeps")
def test_all_figures_use_it():
    summary = summary_of({"grad_cam": 0.1, "random": -0.1})
    expected = [_color(title) for title in ("T-Grad", "Grad-CAM", "Random")]
    bars = metrics_figure(summary).axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars] == expected
    dots = [line for line in seconds_figure(summary).axes[0].lines if line.get_marker() == "o"]
    assert [line.get_color() for line in dots] == expected
    maps = {title: torch.rand(2, 1, 8, 8) for title in ("Random", "T-Grad", "Grad-CAM")}
    results = insertion_deletion(
        small_network(), images(), maps, 0.0, target=1, n_steps=4, return_curves=True
    )
    lines = curves_figure(results).axes[0].lines
    assert [line.get_color() for line in lines] == [_color(title) for title in maps]
    assert TITLES["grad_cam"] == "Grad-CAM"


@pytest.mark.parametrize(("fast", "slow"), [(0.00012, 8.5), (0.1, 0.3), (0.2, 0.2)])
def test_seconds_have_plain_numbers(fast, slow):
    summary = summary_of({"grad_cam": 0.1})
    for name, seconds in (("t_grad", fast), ("grad_cam", slow)):
        summary["methods"][name]["seconds"]["mean"] = seconds
    figure = seconds_figure(summary)
    figure.canvas.draw()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    shown = [
        label.get_text()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert len(shown) >= 2
    assert not any("e" in text or "$" in text for text in shown)
    assert [text.get_text() for text in axes.texts] == [plain(fast), plain(slow)]


def test_a_plain_number_has_no_exponent():
    assert [plain(1e-5), plain(0.00123456, 2), plain(20.0)] == ["0.00001", "0.0012", "20"]
