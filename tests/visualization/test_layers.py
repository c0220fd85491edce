"""The path through a network: the right terms, their maps, scores and shares."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import layers_figure, term_scores_figure
from tests.visualization.networks import decomposition, images, titles


def _bars(axes) -> list[float]:
    return [bar.get_height() for bar in axes.patches]


def test_every_term_that_was_asked_for_is_drawn_in_forward_order():
    whole = decomposition()
    figure = layers_figure(whole, images(), 1, terms=["6", "input", "1"])
    assert [title.split("\n")[0] for title in titles(figure)] == [
        "image",
        "1  input",
        "2  1",
        "3  6",
    ]


def test_the_largest_terms_are_drawn_and_the_input():
    whole = decomposition()
    for sign, direction in (("positive", 1), ("negative", -1)):
        scores = {term.name: direction * float(term.score[0]) for term in whole.biases}
        best = max(scores, key=scores.get)
        figure = layers_figure(whole, sample=0, terms=np.int64(2), sign=sign)
        assert [title.split("\n")[0] for title in titles(figure)] == ["1  input", f"2  {best}"]


def test_a_map_is_that_of_its_term_and_its_title_says_how_much():
    whole = decomposition()
    figure = layers_figure(whole, sample=1, terms=["1"])
    (term,) = (term for term in whole.biases if term.name == "1")
    drawn = figure.axes[0].images[0]
    expected = F.interpolate(term.positive.double(), (8, 8), mode="bilinear")[1, 0].detach()
    values = np.asarray(drawn.get_array())
    # All but those above the limit, which are cut off there.
    below = (values < 1) & (values > 0)
    ratios = values[below] / expected.numpy()[below]
    assert below.mean() > 0.5
    np.testing.assert_allclose(ratios, ratios[0])
    score, output = float(term.score[1]), float(whole.output[1])
    assert f"{score:+.3f}, {score / abs(output):+.1%} of the output" in figure.axes[0].get_title()


def test_a_term_without_a_place_is_spread_evenly():
    figure = layers_figure(decomposition(), terms=["6"], sign="all")
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    assert "(no position: spread evenly)" in figure.axes[0].get_title()
    assert (abs(drawn) == 1).all()
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_a_term_of_zeros_says_so():
    model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(12, 1))
    nn.init.ones_(model[2].weight)
    whole = TGradAttribution(model).decompose(torch.full((1, 3, 2, 2), -1.0), target=0)
    figure = layers_figure(whole, terms=1)
    assert figure.axes[0].get_title().endswith("(0 everywhere)")


def test_the_bars_are_the_scores_of_all_terms_input_first():
    whole = decomposition()
    (axes,) = term_scores_figure(whole, 1).axes
    np.testing.assert_allclose(_bars(axes), [float(term.score[1].detach()) for term in whole.terms])
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        term.name for term in whole.terms
    ]
    assert sum(_bars(axes)) == pytest.approx(float(whole.output[1] - whole.delta[1]), rel=1e-4)
    below = layers_figure(whole, sample=1).axes[-1]
    assert _bars(below) == _bars(axes)


def test_many_bars_have_numbers_for_names():
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(12, 12) for _ in range(30)))
    whole = TGradAttribution(model).decompose(torch.rand(1, 3, 2, 2), target=0)
    (axes,) = term_scores_figure(whole, highlight=np.int64(2)).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "input"
    assert all(label.isdecimal() for label in labels[1:])
    assert "the 31 terms" in axes.get_xlabel()
    assert [text.get_text() for text in axes.texts if text.get_text()] == ["1", "2"]


def test_tables_have_scores_but_no_maps():
    whole = TGradAttribution(nn.Linear(3, 2)).decompose(torch.rand(1, 3), target=1)
    assert len(_bars(term_scores_figure(whole).axes[0])) == 2
    with pytest.raises(ValueError, match="use term_scores_figure"):
        layers_figure(whole)


def test_bad_arguments():
    whole = decomposition()
    with pytest.raises(TypeError, match="must be a Decomposition, got Tensor"):
        layers_figure(whole.output)
    with pytest.raises(ValueError, match="sample 2 is out of range: pass 0 to 1"):
        layers_figure(whole, sample=2)
    for sample in (0.5, "0"):
        with pytest.raises(
            TypeError, match=f"sample must be an integer, got {type(sample).__name__}"
        ):
            layers_figure(whole, sample=sample)
    with pytest.raises(ValueError, match="in terms not found: did you mean 'input'"):
        layers_figure(whole, terms=["inputs"])
    for terms in ("input", 2.5, torch.tensor([1, 2])):
        said = f"must be a number or a list of names, got {type(terms).__name__}"
        with pytest.raises(TypeError, match=f"terms {said}"):
            layers_figure(whole, terms=terms)
        with pytest.raises(TypeError, match=f"highlight {said}"):
            term_scores_figure(whole, highlight=terms)
    with pytest.raises(ValueError, match="terms must be 1 or more, got 0"):
        layers_figure(whole, terms=0)
    with pytest.raises(ValueError, match="terms is empty: name at least one"):
        layers_figure(whole, terms=[])
    for highlight, said in (
        (-1, "highlight must be 1 or more, got -1"),
        (["x"], "in highlight not"),
    ):
        with pytest.raises(ValueError, match=said):
            term_scores_figure(whole, highlight=highlight)
    with pytest.raises(ValueError, match="sign must be"):
        layers_figure(whole, sign="both")
    with pytest.raises(ValueError, match="images has 1 images for 2 samples"):
        layers_figure(whole, images(1))
    with pytest.raises(ValueError, match=r"^decomposition has shape .* image is 4 pixels high"):
        layers_figure(whole, images()[..., :4, :4])
