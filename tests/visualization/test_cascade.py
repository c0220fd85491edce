"""The cascade: the right maps in the right places, and their similarity."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.sanity_checks import cascading_randomization
from captum_tgrad.visualization import cascade_figure, similarity_figure
from tests.visualization.networks import images, small_network, titles


@pytest.fixture(scope="module")
def steps():
    return list(cascading_randomization(small_network(), TGradAttribution, images(), target=1))


def test_rows_are_images_and_columns_are_steps(steps):
    figure = cascade_figure(steps, images(), labels=["cup", "cat"])
    assert titles(figure) == ["image", "trained", "6", "3", "1", "0"]
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_ylabel() for axes in panels if axes.get_ylabel()] == ["cup", "cat"]
    values = steps[2].map[1, 0].numpy()
    drawn = np.asarray(panels[6 + 3].images[0].get_array())
    below = (drawn < 1) & (drawn > 0)
    ratios = drawn[below] / values[below]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-5)


def test_columns_are_spread_evenly_or_chosen(steps):
    assert titles(cascade_figure(iter(steps), columns=np.int64(3))) == ["trained", "3", "0"]
    assert titles(cascade_figure(steps, columns=["1"])) == ["trained", "1"]
    assert titles(cascade_figure(steps[:1])) == ["trained"]


def test_the_curves_are_the_means_over_the_images(steps):
    rank, ssim = similarity_figure(steps).axes
    for axes, measure in ((rank, "spearman"), (ssim, "ssim")):
        expected = [float(getattr(step, measure).mean()) for step in steps]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), expected)
    assert [label.get_text() for label in rank.get_xticklabels()] == ["trained", "6", "3", "1", "0"]
    below = cascade_figure(steps).axes[-2]
    np.testing.assert_allclose(below.lines[0].get_ydata(), rank.lines[0].get_ydata())


def test_undefined_values_are_left_out(steps):
    undefined = dataclasses.replace(steps[1], spearman=torch.tensor([math.nan, 0.25]))
    (line, *_) = similarity_figure([steps[0], undefined]).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1, 0.25])


def test_methods_share_the_axes(steps):
    axes = similarity_figure({"one": steps, "other": steps}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "other"]
    with pytest.raises(ValueError, match="steps of 'other' have other layers"):
        similarity_figure({"one": steps, "other": steps[:3]})


def test_some_of_many_steps_are_named(steps):
    many = [steps[0], *(dataclasses.replace(steps[1], layer=f"layer{n}") for n in range(1, 28))]
    axes = similarity_figure(many).axes[0]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["trained", *(f"layer{number}" for number in range(3, 28, 3))]
    assert [*axes.get_xticks()] == [*range(0, 28, 3)]


def test_the_curves_of_a_cascade_name_the_steps_above(steps):
    *_, rank, _ = cascade_figure(steps, columns=3).axes
    assert [label.get_text() for label in rank.get_xticklabels()] == ["trained", "3", "0"]
    assert [*rank.get_xticks()] == [0, 2, 4]


def test_signed_maps_have_their_absolute_values_too(steps):
    signed = [dataclasses.replace(step, spearman=-step.spearman) for step in steps]
    assert len(similarity_figure(signed).axes[0].get_legend().get_texts()) == 2
    diverging = [dataclasses.replace(step, map=-step.map) for step in steps]
    assert cascade_figure(diverging).axes[0].images[0].get_clim() == (-1, 1)


def test_bad_arguments(steps):
    with pytest.raises(ValueError, match="steps is empty"):
        cascade_figure(iter([]))
    with pytest.raises(TypeError, match="must be RandomizationStep, got str"):
        cascade_figure(["step"])
    with pytest.raises(TypeError, match="must be a list of RandomizationStep, got int"):
        similarity_figure(3)
    with pytest.raises(ValueError, match="images must have one entry per image, got 3 for 2"):
        cascade_figure(steps, images(3))
    with pytest.raises(ValueError, match="columns is 'head'"):
        cascade_figure(steps, columns=["head"])
    for columns in (2.5, None, "0"):
        said = f"must be a number or a list of names, got {type(columns).__name__}"
        with pytest.raises(TypeError, match=f"columns {said}"):
            cascade_figure(steps, columns=columns)
    with pytest.raises(ValueError, match="columns must be 2 or more, got 1"):
        cascade_figure(steps, columns=1)
    tables = [dataclasses.replace(step, map=torch.rand(2, 5)) for step in steps]
    with pytest.raises(ValueError, match="use similarity_figure"):
        cascade_figure(tables)
