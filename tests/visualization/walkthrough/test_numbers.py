"""The numbers in a page are the decomposition's, and its maps are as exact as it says."""

import base64
import json
import re

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.visualization import View, walkthrough_page
from captum_tgrad.visualization.walkthrough.numbers import stored_map
from tests.visualization.networks import decomposition, images, small_network


def numbers_in(page: str) -> dict:
    block = re.search(r'<script id="numbers" type="application/json">(.*?)</script>', page, re.S)
    return json.loads(block[1])


def cells(stored: dict) -> torch.Tensor:
    """The map that a browser reads."""
    levels = torch.tensor(list(base64.b64decode(stored["cells"]))).double()
    return (stored["largest"] * (levels / 255) ** 2).reshape(stored["size"])


def by_hand() -> tuple[nn.Module, torch.Tensor]:
    """``f(x) = 2 x_0 + 4 x_1 - 2 x_2 + 2 - 3`` on four pixels of one channel.

    A convolution with weight 2 and bias 1, then a linear layer with weights 1, 2, -1, 0 and bias
    -3: the convolution's bias reaches the output with 1 + 2 - 1 + 0.
    """
    convolution, linear = nn.Conv2d(1, 1, 1), nn.Linear(4, 1)
    with torch.no_grad():
        convolution.weight.fill_(2)
        convolution.bias.fill_(1)
        linear.weight.copy_(torch.tensor([[1.0, 2.0, -1.0, 0.0]]))
        linear.bias.fill_(-3)
    return nn.Sequential(convolution, nn.Flatten(), linear), torch.tensor(
        [[[[1.0, 0.5], [0.25, 9]]]]
    )


def test_numbers_computed_by_hand():
    model, image = by_hand()
    view = View("f", TGradAttribution(model).decompose(image, target=0), "f(x)", "up", "down")
    (found,) = numbers_in(walkthrough_page([view], image))["views"]
    # 2 * 1 + 4 * 0.5 - 2 * 0.25 = 3.5; 1 + 2 - 1 = 2; -3.
    assert [term["score"] for term in found["terms"]] == [3.5, 2.0, -3.0]
    assert [term["name"] for term in found["terms"]] == ["input", "0", "2"]
    assert (found["output"], found["residual"]) == (2.5, 0.0)
    assert found["sums"] == {"for": 5.5, "against": 3.0}
    assert found["terms"][0]["evidence"] == {"for": 4.0, "against": 0.5}
    assert found["terms"][1]["evidence"] == {"for": 3.0, "against": 1.0}
    assert [term["shares"]["for"] for term in found["terms"]] == pytest.approx(
        [3.5 / 5.5, 2 / 5.5, 0]
    )
    assert [term["shares"]["against"] for term in found["terms"]] == [0, 0, 1]
    assert [term["resolution"] for term in found["terms"]] == ["2 x 2", "2 x 2", ""]
    assert found["summary"] == (
        "F(x) is +2.500: the input adds +3.500, 2 bias terms add \N{MINUS SIGN}1.000, and the"
        " residual is +0.000."
    )
    torch.testing.assert_close(
        cells(found["terms"][0]["maps"]["for"]), torch.tensor([[2.0, 2], [0, 0]]).double()
    )
    # eq. 8: the input's 3.5 over evidence 2, 2, 0, 0; the bias's 2 over 1, 2, 0, 0.
    wanted = torch.tensor([[1.75 + 2 / 3, 1.75 + 4 / 3], [0, 0]]).double()
    torch.testing.assert_close(cells(found["maps"]["for"]), wanted, rtol=0, atol=3.1 / 255)
    # The last bias has no place: its 3 are spread evenly.
    wanted = torch.full((2, 2), 0.75).double()
    torch.testing.assert_close(cells(found["maps"]["against"]), wanted)


def test_every_number_is_that_of_the_decomposition():
    whole = decomposition(samples=2)
    page = walkthrough_page([View("one", whole)], images(), sample=1)
    (found,) = numbers_in(page)["views"]
    assert found["output"] == float(whole.output[1])
    assert found["residual"] == float(whole.delta[1])
    assert len(found["terms"]) == len(whole)
    for term, stored in zip(whole, found["terms"], strict=True):
        assert (stored["name"], stored["score"]) == (term.name, float(term.score[1]))
        for side, evidence in (("for", term.positive), ("against", term.negative)):
            exact = evidence[1].double()
            assert stored["evidence"][side] == float(exact.sum())
            kept = cells(stored["maps"][side])
            assert (kept - exact.reshape(kept.shape)).abs().max() <= kept.max() / 255


def test_the_whole_maps_are_what_attribute_returns():
    method = TGradAttribution(small_network())
    page = walkthrough_page([View("one", decomposition(samples=2))], images(), sample=1)
    (found,) = numbers_in(page)["views"]
    for side, sign in (("for", "positive"), ("against", "negative")):
        exact = method.attribute(images(), target=1, sign=sign).sum(1)[1].double().detach()
        kept = cells(found["maps"][side])
        assert (kept - exact).abs().max() <= kept.max() / 255
        assert float(exact.sum()) == pytest.approx(found["sums"][side], rel=1e-5)


def test_a_stored_map_is_off_by_no_more_than_it_says():
    values = torch.rand(50, 40, dtype=torch.float64) ** 6 * 7
    error = (cells(stored_map(values)) - values).abs()
    assert error.max() <= 7 / 255
    # Small values are closer: half a level of the square root.
    assert (error <= (values * 7).sqrt() / 255 + 7 / 510**2 + 1e-12).all()


def test_a_large_map_is_averaged():
    values = torch.rand(448, 300)
    stored = stored_map(values)
    assert stored["size"] == [224, 224]
    wanted = nn.functional.adaptive_avg_pool2d(values[None], (224, 224))[0].double()
    torch.testing.assert_close(cells(stored), wanted, rtol=0, atol=1 / 255)


def test_a_map_that_is_finer_than_the_input_is_averaged():
    model = nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 16 * 16, 1)
    )
    whole = TGradAttribution(model).decompose(images(1), target=0)
    assert whole["1"].resolution == "16 x 16"
    (found,) = numbers_in(walkthrough_page([View("one", whole)], images(1)))["views"]
    stored = found["terms"][1]["maps"]["for"]
    wanted = nn.functional.avg_pool2d(whole["1"].positive, 2)[0, 0].double()
    assert (cells(stored) - wanted).abs().max() <= wanted.max() / 255
    assert found["terms"][1]["score"] == float(whole["1"].score)


@pytest.mark.parametrize("values", [torch.zeros(2, 3), torch.full((1, 1), 4.0)])
def test_flat_maps(values):
    torch.testing.assert_close(cells(stored_map(values)), values.double())
