"""FullGrad against its formula, written out literally on the reference's terms."""

import pytest
import torch
from torch.nn.functional import interpolate

from captum_tgrad import FullGradAttribution
from tests import reference
from tests.tiny_networks import TINY_NETWORKS

IMAGES = [
    tiny
    for tiny in TINY_NETWORKS
    if len(tiny.shapes) == 1 and len(tiny.shapes[0]) == 4 and tiny.conventional
]


def _post_processed(sample):
    """Absolute value, rescaled to [0, 1] over channels and places."""
    sample = sample.abs()
    sample = sample - sample.min()
    return sample / sample.max() if sample.max() > 0 else sample


def _literal(decomposition, spatial):
    maps = []
    for sample in range(len(decomposition.output)):
        total = _post_processed(decomposition.inputs[0].samples[sample]).sum(1, keepdim=True)
        for term in decomposition.nonzero_biases:
            element = term.samples[sample]
            if element.dim() == 4 and element.shape[2:].numel() > 1:
                large = interpolate(
                    _post_processed(element), spatial, mode="bilinear", align_corners=False
                )
                total = total + large.sum(1, keepdim=True)
        maps.append(total)
    return torch.cat(maps)


@pytest.mark.parametrize("tiny", IMAGES, ids=lambda tiny: tiny.id)
def test_equals_the_literal_formula(tiny):
    network, (inputs,) = tiny.build(), tiny.inputs
    expected = _literal(reference.decompose(network, inputs, tiny.target), inputs.shape[2:])
    actual = FullGradAttribution(network).attribute(inputs, tiny.target)
    assert actual.shape == inputs.shape
    torch.testing.assert_close(actual.sum(1, keepdim=True), expected, rtol=1e-6, atol=1e-6)
