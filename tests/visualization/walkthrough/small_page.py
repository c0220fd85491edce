"""A page of a small network, and how to ask a browser what it shows."""

import torch

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import View, walkthrough_page
from tests.visualization.networks import images, small_network

MODEL, IMAGE = small_network(), images(1)
torch.manual_seed(3)
for part in (MODEL[0], MODEL[3], MODEL[6]):
    torch.nn.init.uniform_(part.bias, -0.5, 1)


def _view(name, function, *sides):
    decomposition = TGradAttribution(function).decompose(IMAGE)
    return View(name, decomposition, f"the logit of {name}", *sides)


VIEWS = [
    _view("cat", lambda x: MODEL(x)[:, 1], "for cat", "against cat"),
    _view("dog", lambda x: MODEL(x)[:, 2], "for dog", "against dog"),
    _view(
        "cat, not dog", lambda x: MODEL(x)[:, 1:3] @ torch.tensor([1.0, -1]), "for cat", "for dog"
    ),
]
SCORES = [[float(term.score) for term in view.decomposition] for view in VIEWS]
NAMES = [term.name for term in VIEWS[0].decomposition]
LAST = len(NAMES) - 1


def document():
    """Of two classes and their difference."""
    return walkthrough_page(VIEWS, IMAGE, title="Why cat?")


def drawn(browser):
    """The colors on the canvas."""
    return browser("byId('map').toDataURL()")


def readout(browser):
    return browser("byId('readout').innerText")


def bar(index):
    return f"#bars > :nth-child({index + 1})"
