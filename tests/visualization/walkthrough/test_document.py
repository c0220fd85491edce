"""What is in the file: nothing from elsewhere, nothing that a name could break."""

import re
from html.parser import HTMLParser

import pytest
import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import View, walkthrough_page
from tests.visualization.networks import decomposition, images
from tests.visualization.walkthrough.test_numbers import numbers_in

EVIL = '</script><script>alert("1")</script><!-- & "quoted" $style ${x} \u2028\u202e\x1b[2J'
SHOWN = EVIL.replace("\u2028\u202e\x1b", r"\u2028\u202e\x1b")


class Elements(HTMLParser):
    """The elements of a page and all their texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="module")
def page():
    return walkthrough_page([View("one", decomposition(1))], images(1), title="A title", about="b")


def test_it_is_one_file_that_asks_nothing_of_the_network(page):
    assert "://" not in page
    assert "@import" not in page
    parsed = Elements(page)
    assert parsed.count("link") == 0
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    policy = next(a["content"] for tag, a in parsed.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
    assert policy.count("'sha256-") == len(scripts) - 1  # all but the numbers


def test_names_stay_text_without_control_characters():
    names = dict.fromkeys(("output", "speaks_for", "speaks_against"), EVIL)
    view = View(EVIL, decomposition(1), **names)
    view.decomposition.biases[0].__dict__["name"] = EVIL
    page = walkthrough_page([view], images(1), title=EVIL, about=EVIL)
    plain = walkthrough_page([View("a", decomposition(1))], images(1))
    parsed = Elements(page)
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in Elements(plain).tags]
    assert SHOWN in parsed.texts
    assert any(SHOWN in a.get("aria-label", "") for tag, a in parsed.tags if tag == "div")
    (found,) = numbers_in(page)["views"]
    assert (found["name"], found["sides"]["for"], found["terms"][1]["name"]) == (SHOWN,) * 3


def test_without_scripts_all_terms_are_there(page):
    parsed = Elements(page)
    terms = decomposition(1).terms
    bars = [a for tag, a in parsed.tags if a.get("role") == "option"]
    assert [bar["aria-label"].split(":")[1].split()[0] for bar in bars] == [t.name for t in terms]
    assert parsed.count("tr") == len(terms) + 1
    still = next(a for tag, a in parsed.tags if a.get("id") == "still")
    assert still["src"].startswith("data:image/webp;base64,")


def test_all_controls_have_names(page):
    parsed = Elements(page)
    assert parsed.count("legend") == parsed.count("fieldset") == 3
    assert all(attributes["alt"] for tag, attributes in parsed.tags if tag == "img")
    assert re.search(r"<html lang=\"en\">", page)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": []}, "views is empty"),
        ({"sample": 1}, "sample 1 is out of range"),
        ({"images": images(2)}, "2 images for 1 samples"),
    ],
)
def test_bad_values(change, message):
    arguments = {"views": [View("one", decomposition(1))], "images": images(1), **change}
    with pytest.raises(ValueError, match=message):
        walkthrough_page(**arguments)


def test_scores_that_are_not_finite():
    whole = decomposition(1)
    whole.biases[0].score.fill_(torch.nan)
    with pytest.raises(ValueError, match="scores that are not finite"):
        walkthrough_page([View("one", whole)], images(1))


def test_bad_views():
    with pytest.raises(TypeError, match="views must hold View"):
        walkthrough_page([decomposition(1)], images(1))
    flat = TGradAttribution(torch.nn.Linear(2, 1)).decompose(torch.ones(1, 2), target=0)
    with pytest.raises(ValueError, match="one input of images"):
        walkthrough_page([View("one", flat)], images(1))
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3), torch.nn.Flatten())
    small = TGradAttribution(model).decompose(torch.rand(1, 3, 5, 5), target=0)
    with pytest.raises(ValueError, match="different sizes"):
        walkthrough_page([View("one", decomposition(1)), View("two", small)], images(1))
