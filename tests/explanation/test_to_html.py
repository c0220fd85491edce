"""An explanation as a page: two classes and their difference, from the photo as it was given."""

import base64
import io
import re
from html import unescape

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import to_tensor

from captum_tgrad.explanation import explain
from captum_tgrad.zoo import Classifier, load_classifier, sample_image
from tests.visualization.walkthrough.test_numbers import numbers_in

MEGABYTE = 2**20


def _classifier(names=("a", "</script><script>", "c")):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, len(names)))
    return Classifier("tiny", model.eval(), names, to_tensor, lambda image: image)


def _images(count=2):
    torch.manual_seed(1)
    pixels = torch.randint(256, (count, 6, 6, 3), dtype=torch.uint8)
    return [Image.fromarray(each.numpy()) for each in pixels]


def _photo_in(page):
    data = re.search(r'id="photo" src="data:image/webp;base64,([^"]*)"', page)[1]
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture(scope="module")
def espresso():
    return explain(load_classifier(), [sample_image()], rival=True)[0]


def test_the_page_of_the_built_in_model(espresso):
    page = espresso.to_html("coffee.png")
    assert len(page.encode()) < 3 * MEGABYTE
    assert "<title>Why espresso?</title>" in page
    assert "coffee.png" in page
    views = numbers_in(page)["views"]
    assert [view["name"] for view in views] == ["espresso", "cup", "espresso, not cup"]
    assert views[0]["output"] == espresso.logit
    scores = {term["name"]: term["score"] for term in views[0]["terms"]}
    for term in espresso.largest_terms:
        assert scores[term.name] == term.score
    assert views[0]["sums"]["for"] == pytest.approx(float(espresso.attribution.sum()), rel=1e-4)
    for one, other, both in zip(*(view["terms"] for view in views), strict=True):
        assert both["score"] == pytest.approx(one["score"] - other["score"], abs=1e-4)


def test_the_photo_is_what_the_network_saw_at_its_own_resolution(espresso):
    photo = _photo_in(espresso.to_html())
    left, top, right, bottom = espresso.seen
    assert photo.size == (right - left, bottom - top)
    seen = torch.tensor(list(espresso.image.convert("L").tobytes())).double()
    shown = torch.tensor(list(photo.resize(espresso.image.size).convert("L").tobytes())).double()
    assert torch.corrcoef(torch.stack([seen, shown]))[0, 1] > 0.98


def test_the_map_of_a_padded_image_is_on_the_padded_image():
    images = [sample_image().resize((300, 200))]
    (found,) = explain(load_classifier(resize="pad"), images, keep_terms=True)
    assert _photo_in(found.to_html()).size == found.image.size == (224, 224)
    # Squashed images have no border: the map covers the whole photo.
    (found,) = explain(load_classifier(resize="squash"), images, keep_terms=True)
    assert _photo_in(found.to_html()).size == (300, 200)


def test_each_picture_has_a_rival_of_its_own():
    classifier, images = _classifier(), _images(4)
    found = explain(classifier, images, rival=True)
    for explanation in found:
        first, second = explanation.predictions[:2]
        assert (explanation.target, explanation.rival.prediction) == (first, second)
        (whole,) = explanation.rival.difference.output.tolist()
        other = float(explanation.rival.decomposition.output)
        assert whole == pytest.approx(explanation.logit - other, abs=1e-5)


def test_a_rival_that_is_named():
    classifier, images = _classifier(), _images(4)
    found = explain(classifier, images, target="a", rival="c")
    assert {explanation.rival.prediction.name for explanation in found} == {"c"}
    # Where it is the class itself, the most probable other one stands in.
    found = explain(classifier, images, rival=np.int64(0))
    for explanation in found:
        wanted = 0 if explanation.target.index else explanation.predictions[1].index
        assert explanation.rival.prediction.index == wanted
    with pytest.raises(ValueError, match="class 'd' not found"):
        explain(classifier, images, rival="d")
    with pytest.raises(TypeError, match="rival must be the index or the name"):
        explain(classifier, images, rival=1.5)


def test_a_page_of_one_class():
    (found,) = explain(_classifier(), _images(1), keep_terms=True)
    assert found.rival is None
    assert len(numbers_in(found.to_html())["views"]) == 1


def test_the_map_of_the_page_is_the_sum_of_the_terms():
    (found,) = explain(_classifier(), _images(1), keep_terms=True, aggregation="levels")
    assert 'the map here is that of aggregation "paper"' in unescape(found.to_html())
    (paper,) = explain(_classifier(), _images(1), keep_terms=True)
    assert numbers_in(found.to_html()) == numbers_in(paper.to_html())


def test_names_of_classes_and_files_stay_text():
    (found,) = explain(_classifier(), _images(1), target=1, rival=0)
    plain = explain(_classifier(("a", "b", "c")), _images(1), target=1, rival=0)[0]
    page = found.to_html("<b>&amp;.png")
    assert page.count("<script") == plain.to_html("d.png").count("<script")
    assert "<b>&amp;.png" not in page
    assert numbers_in(page)["views"][0]["name"] == "</script><script>"


def test_without_terms_it_says_how_to_keep_them():
    (found,) = explain(_classifier(), _images(1))
    assert found._repr_html_() is None
    name, index = found.target.name, found.target.index
    assert repr(found).startswith(f"Explanation of {name} ({index}): logit {found.logit:.4g};")
    assert len(repr(found)) < 200
    with pytest.raises(ValueError, match="keep_terms=True"):
        found.to_html()


def test_a_notebook_shows_the_page_in_a_frame():
    formatters = pytest.importorskip("IPython.core.formatters")
    (found,) = explain(_classifier(), _images(1), rival=True)
    shown, _ = formatters.DisplayFormatter().format(found)
    frame = shown["text/html"]
    inside = re.fullmatch(
        r'<iframe srcdoc="([^"]*)" sandbox="allow-scripts"[^<>]*></iframe>', frame
    )
    assert unescape(inside[1]) == found.to_html()
