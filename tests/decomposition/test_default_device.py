"""A default device that the user has set has no influence on the maps of a model elsewhere."""

import torch

from captum_tgrad import TGradAttribution
from tests.networks import each_network

ELSEWHERE = torch.device("meta")  # tensors on it have no values: any that is read raises an error


@each_network
def test_maps_under_a_default_device(tiny):
    network, inputs = tiny.build(), tiny.inputs
    method = TGradAttribution(network)
    expected = method.decompose(inputs, target=tiny.target)
    with ELSEWHERE:
        found = method.decompose(inputs, target=tiny.target)
        for aggregation in ("paper", "levels"):
            torch.testing.assert_close(
                found.map(aggregation=aggregation), expected.map(aggregation=aggregation)
            )
        for own, other in zip(found.terms, expected.terms, strict=True):
            torch.testing.assert_close(own.positive, other.positive)
            torch.testing.assert_close(own.negative, other.negative)
