"""A default device that the user has set has no influence on the maps of a model elsewhere."""

import pytest
import torch

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import maps_of
from tests.networks import each_network

ELSEWHERE = torch.device("meta")  # tensors on it have no values: any that is read raises an error

X = torch.linspace(0.1, 1, 8).reshape(1, 1, 8)
MASK = torch.arange(8) >= 6
PAIRS = (torch.arange(8)[:, None] % 4 == torch.arange(4)).float()


@each_network
def test_maps_under_a_default_device(tiny):
    network, inputs = tiny.build(), tiny.inputs
    method = TGradAttribution(network)
    expected = method.decompose(inputs, target=tiny.target)
    with ELSEWHERE:
        found = method.decompose(inputs, target=tiny.target)
        torch.testing.assert_close(maps_of(found), maps_of(expected))
        for own, other in zip(found.terms, expected.terms, strict=True):
            torch.testing.assert_close(own.positive, other.positive)
            torch.testing.assert_close(own.negative, other.negative)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.as_strided((1, 1, 3, 4), (8, 8, 2, 1)),
        lambda x: x @ PAIRS,
        lambda x: x.unfold(2, 3, 1).mean(3),
        lambda x: torch.stack([x[..., :2], x[..., 3:5], x[..., 6:]]).sum(0),
        lambda x: torch.ops.aten.slice(x.masked_fill(MASK, -torch.inf).softmax(2), 2, 0, 6),
    ],
)
def test_places_under_a_default_device(forward):
    def network(x):
        return forward(x).sin().flatten(1).sum(1)

    with ELSEWHERE:  # first, as places are kept for the next call
        found = TGradAttribution(network).attribute(X, sign="all")
    expected = TGradAttribution(network).attribute(X, sign="all")
    torch.testing.assert_close(found, expected)
