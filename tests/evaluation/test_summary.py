"""Means and intervals are those of scipy; the table says what there is and what is missing."""

import math
import string

import numpy as np
import pytest
import scipy.stats

from captum_tgrad.evaluation.report.bootstrap import bootstrap_means
from captum_tgrad.evaluation.report.evaluation import page
from captum_tgrad.evaluation.report.markdown import markdown
from captum_tgrad.evaluation.report.summary import COLUMNS, summarize
from captum_tgrad.evaluation.report.table import table_of
from captum_tgrad.evaluation.storage.records import KEYS
from captum_tgrad.metrics.registry import NUMBERS
from captum_tgrad.visualization.evaluation_figures import metrics_figure, seconds_figure

TITLES = {"t_grad": "T-Grad", "saliency": "Vanilla Gradient", "deep_lift": "DeepLIFT"}


def _records(method, values, images="abcdefgh"):
    return [
        {"image": image, "method": method, **dict.fromkeys(KEYS[2:], 0.5), "insertion": value}
        for image, value in zip(images, values, strict=False)
    ]


def _scipy(values, seed=0):
    found = scipy.stats.bootstrap(
        (np.asarray(values),), np.mean, method="percentile", n_resamples=10_000, rng=seed
    )
    return found.confidence_interval


@pytest.mark.parametrize(("rows", "seed"), [(2, 0), (7, 1), (501, 2)])
def test_intervals_are_those_of_scipy(rows, seed):
    values = np.random.default_rng(5).normal(size=(rows, 3))
    found = bootstrap_means(values, seed)
    for column in range(3):
        expected = _scipy(values[:, column], seed)
        mean, low, high, count = found[column]
        assert (mean, count) == (pytest.approx(values[:, column].mean(), rel=1e-12), rows)
        assert (low, high) == pytest.approx((expected.low, expected.high), rel=1e-10)


@pytest.mark.filterwarnings("error")
def test_images_without_a_value_do_not_count():
    values = np.array([[1.0, math.nan], [2.0, 5.0], [6.0, math.nan], [3.0, math.nan]])
    first, second = bootstrap_means(values)
    assert (first.mean, first.images) == (3.0, 4)
    # Only one image has a value: every resample that holds it has that mean.
    assert second == (5.0, 5.0, 5.0, 1)
    (nothing,) = bootstrap_means(np.array([[math.nan], [math.nan]]))
    assert nothing.images == 0
    assert all(math.isnan(value) for value in nothing[:3])


def test_differences_are_paired():
    ours, theirs = np.array([0.1, 0.9, 0.4, 0.6]), np.array([0.0, 0.8, 0.2, 0.7])
    # In another order, and with an image that T-Grad has no record of.
    records = [*_records("t_grad", ours)[::-1], *_records("saliency", [*theirs, 9.0])]
    summary = summarize(records, [], TITLES, {"seed": 3})
    difference = summary["methods"]["saliency"]["minus_t_grad"]["insertion"]
    assert difference["mean"] == pytest.approx(np.mean(theirs - ours))
    assert difference["images"] == 4
    assert summary["methods"]["saliency"]["insertion"]["mean"] == pytest.approx(10.7 / 5)
    assert summary["methods"]["t_grad"]["minus_t_grad"] is None

    complete = summarize(records[:-1], [], TITLES, {"seed": 3})["methods"]["saliency"]
    expected = _scipy(theirs - ours, 3)
    cell = complete["minus_t_grad"]["insertion"]
    assert (cell["low"], cell["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_order_of_records_does_not_matter():
    records = _records("t_grad", [0.1, 0.5, 0.3]) + _records("saliency", [0.2, 0.4, 0.9])
    assert summarize(records, [], TITLES, {}) == summarize(records[::-1], [], TITLES, {})
    values = np.random.default_rng(1).normal(size=26)
    records = _records("t_grad", values, string.ascii_lowercase)[::-1]
    cell = summarize(records, [], TITLES, {})["methods"]["t_grad"]["insertion"]
    expected = _scipy(values)  # in the order of the images
    assert (cell["low"], cell["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_methods_without_a_title_follow_the_others():
    records = [record for name in ("own b", "own a", "t_grad") for record in _records(name, [0.5])]
    methods = summarize(records, [], {"t_grad": "T-Grad"}, {})["methods"]
    titles = [(name, each["title"]) for name, each in methods.items()]
    assert titles == [("t_grad", "T-Grad"), ("own a", "own a"), ("own b", "own b")]


def test_a_null_is_no_zero():
    records = _records("t_grad", [0.1, 0.5])
    records[0]["average_drop"] = None
    cell = summarize(records, [], TITLES, {})["methods"]["t_grad"]["average_drop"]
    assert (cell["mean"], cell["images"]) == (0.5, 1)
    records[1]["average_drop"] = None
    cell = summarize(records, [], TITLES, {})["methods"]["t_grad"]["average_drop"]
    assert cell == {"mean": None, "low": None, "high": None, "images": 0}


def _summary():
    skipped = [
        {"image": "a", "method": "deep_lift", "reason": "AssertionError: a | reused\nmodule"},
        {"image": "z", "method": None, "reason": "is damaged"},
    ]
    records = _records("t_grad", [0.1, 0.5]) + _records("saliency", [0.25, 0.25])
    return summarize(records, skipped, TITLES, {"n_steps": 224, "model": "tiny", "seed": 0})


def test_a_reason_is_the_most_common_one_of_its_method():
    reasons = ["once", "twice", "twice"]
    skipped = [{"image": "a", "method": "deep_lift", "reason": reason} for reason in reasons]
    skipped += [{"image": "z", "method": None, "reason": "is damaged"}] * 3
    methods = summarize(_records("t_grad", [0.5]), skipped, TITLES, {})["methods"]
    assert {name: each["reason"] for name, each in methods.items()} == {
        "t_grad": None,
        "saliency": None,
        "deep_lift": "twice",
    }


def test_the_table_has_every_method_the_protocol_and_what_was_skipped():
    text = markdown(page(_summary()))
    lines = text.splitlines()
    assert lines[0] == "# 3 methods on 2 images"
    tables, skipped = text.split("## Skipped")
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    assert len({line.count("|") - line.count("\\|") for line in rows}) == 1
    assert rows[0].startswith("| Method | Insertion ↑ | Deletion ↓ | Insertion - Deletion ↑ |")
    assert rows[1].startswith("| T-Grad | **0.300 [0.100, 0.500]** |")
    assert rows[3].startswith("| DeepLIFT | AssertionError: a \\| reused module |")
    assert "| Vanilla Gradient | -0.0500 [-0.250, +0.150] |" in text
    for wanted in ("- n_steps: 224", "10000 resamples", "paired by image"):
        assert wanted in tables
    assert "| z | all | is damaged |" in skipped
    assert "| a | deep_lift | AssertionError: a \\| reused module |" in skipped


def test_the_table_lists_the_first_skipped_images_and_the_page_all():
    skipped = [{"image": f"{n}.jpg", "method": None, "reason": "is damaged"} for n in range(25)]
    summary = summarize(_records("t_grad", [0.1, 0.5]), skipped, TITLES, {})
    text = markdown(page(summary))
    assert text.count("is damaged") == 20
    assert text.endswith("And 5 more, in summary.json.\n")
    figures = {"metrics": metrics_figure(summary), "seconds": seconds_figure(summary)}
    assert page(summary, figures).html().count("is damaged") == 25


def test_the_table_counts_the_images_that_both_methods_have():
    records = _records("t_grad", [0.1, 0.5, 0.3], "abc")
    records += _records("saliency", [0.25, 0.25, 0.5, 0.5], "bcde")
    records += _records("deep_lift", [0.5], "z")
    summary = summarize(records, [], TITLES, {})
    above, below = markdown(page(summary)).split("## Differences")
    counts = [
        {row.split(" | ")[0]: row.split(" | ")[-1] for row in part.splitlines() if "| " in row}
        for part in (above, below)
    ]
    assert counts[0] == {
        "| Method": "Images |",
        "| T-Grad": "3 |",
        "| Vanilla Gradient": "4 |",
        "| DeepLIFT": "1 |",
    }
    assert counts[1] == {"| Method": "Images |", "| Vanilla Gradient": "2 |", "| DeepLIFT": "0 |"}


def test_a_number_of_fewer_images_says_of_how_many():
    records = [
        {**record, "pointing_game": pointing}
        for record, pointing in zip(_records("t_grad", [0.5] * 3), [1.0, None, 1.0], strict=True)
    ]
    summary = summarize(records, [], TITLES, {})
    table = table_of(summary)
    cells = dict(zip(table.headings, table.rows[0], strict=True))
    assert cells["Pointing Game \N{UPWARDS ARROW}"] == "1.00 [1.00, 1.00] (2)"
    assert cells["Insertion \N{UPWARDS ARROW}"] == "0.500 [0.500, 0.500]"
    assert cells["Images"] == "3"
    assert "| 1.00 [1.00, 1.00] (2) |" in markdown(page(summary))


def test_seconds_have_no_interval():
    # All images of a batch have the same: two numbers are not the eight that they seem.
    records = [
        {**record, "seconds": seconds}
        for name in ("t_grad", "saliency")
        for record, seconds in zip(_records(name, [0.5] * 8), [1.0] * 7 + [5.0], strict=True)
    ]
    summary = summarize(records, [], TITLES, {})
    assert summary["methods"]["t_grad"]["seconds"] == {"mean": 1.5, "images": 8}
    rows = [line for line in markdown(page(summary)).splitlines() if line.startswith("| Vanilla")]
    assert [row.split(" | ")[-2] for row in rows] == ["1.50", "+0.00"]


def test_means_over_other_images_are_not_the_best():
    # On the image that both have, T-Grad is better.
    records = [*_records("t_grad", [0.9, 0.1]), *_records("saliency", [0.8])]
    assert table_of(summarize(records, [], TITLES, {})).best["Insertion \N{UPWARDS ARROW}"] == []
    records = [*_records("t_grad", [0.9, 0.1]), *_records("saliency", [0.8, 0.1])]
    records[0]["deletion"] = 0.6
    summary = summarize(records, [], TITLES, {})
    best = table_of(summary).best
    assert best["Insertion \N{UPWARDS ARROW}"] == [0]
    assert best["Deletion \N{DOWNWARDS ARROW}"] == [1]
    assert table_of(summary, "minus_t_grad").best == {}


def test_one_image_has_no_interval():
    table = table_of(summarize(_records("t_grad", [0.9]), [], TITLES, {}))
    assert table.rows[0][:2] == ["T-Grad", "0.900"]


def test_an_evaluation_without_any_record_has_a_table():
    summary = summarize([], [{"image": "a", "method": None, "reason": "is damaged"}], TITLES, {})
    assert "# 3 methods on 0 images" in markdown(page(summary))
    with pytest.raises(ValueError, match="has no records"):
        metrics_figure(summary)


def test_figures_show_the_means_and_the_intervals():
    summary = _summary()
    figure = metrics_figure(summary)
    axes = figure.axes[0]
    assert axes.get_title() == "Insertion (higher is better)"
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.3, 0.25])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["T-Grad", "Vanilla Gradient"]
    (line,) = axes.collections
    ends = np.array(line.get_segments())[:, :, 0]
    assert ends[0].tolist() == pytest.approx([0.1, 0.5])
    titles = [axes.get_title().rsplit(" (", 1)[0] for axes in figure.axes if axes.axison]
    assert titles == [number.title for number in NUMBERS.values()]
    figure.canvas.draw()
    (caption,) = (text for axes in figure.axes if not axes.axison for text in axes.texts)
    assert caption.get_window_extent().y1 == pytest.approx(caption.axes.bbox.y1, abs=3)

    axes = seconds_figure(summary).axes[0]
    assert axes.get_xscale() == "log"
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o"]
    assert [float(*dot) for dot in dots] == pytest.approx([0.5, 0.5])
    assert COLUMNS[-1] == "seconds"
