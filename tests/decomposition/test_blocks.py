"""Cutting a large activation into blocks changes no term."""

from itertools import product

import pytest
import torch

from captum_tgrad import FullGradAttribution, LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.bias import Bias
from captum_tgrad.decomposition.maps import summing
from captum_tgrad.decomposition.places.places import input_places
from captum_tgrad.decomposition.scratch import Scratch
from tests import reference
from tests.networks import each_network
from tests.networks.torchvision_models import build

MEMORY_FORMATS = [torch.contiguous_format, torch.channels_last]

EXACT = {"rtol": 1e-10, "atol": 1e-10}


class CutBias(Bias):
    """Notes along which dimensions it is cut."""

    def part(self, dim, *arguments):
        self.dims.append(dim)
        return super().part(dim, *arguments)


@each_network
@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
def test_terms_are_the_same(tiny, memory_format, monkeypatch):
    network, inputs = tiny.build(), tiny.inputs
    if memory_format is torch.channels_last:
        if any(x.dim() != 4 for x in inputs):
            pytest.skip("only images have channels last")
        network = network.to(memory_format=memory_format)
        inputs = tuple(x.contiguous(memory_format=memory_format) for x in inputs)
    given = inputs if len(inputs) > 1 else inputs[0]
    whole = TGradAttribution(network).decompose(given, tiny.target)
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", 5)
    cut = TGradAttribution(network).decompose(given, tiny.target)
    for expected, actual in zip(whole.terms, cut.terms, strict=True):
        torch.testing.assert_close(actual.score, expected.score, **EXACT)
        torch.testing.assert_close(actual.positive, expected.positive, **EXACT)
        torch.testing.assert_close(actual.negative, expected.negative, **EXACT)


@pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
def test_along_the_slowest_dimension(memory_format, monkeypatch):
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", 20)
    gradient = torch.rand(1, 4, 5, 6).contiguous(memory_format=memory_format)
    places = input_places(gradient.shape, 0)
    axes = [axis for axis in places.coordinates if axis.is_place and axis.input == 0]
    all_sums = summing.Summing({0: axes}, 1, gradient.device, scratch=Scratch(0))

    def cut_along(*uncut):
        bias = CutBias(torch.clone, torch.rand_like(gradient), uncut=uncut)
        bias.dims = []
        all_sums.sums_of(gradient, bias, places)
        return set(bias.dims)

    slowest, next_one = (1, 2) if memory_format is torch.contiguous_format else (2, 3)
    assert cut_along() == {slowest}
    assert cut_along(slowest) == {next_one}
    assert cut_along(1, 2, 3) == set()


@pytest.mark.parametrize(
    ("name", "memory_format"),
    [
        *product(["mobilenet_v3_small", "swin_t", "convnext_tiny"], MEMORY_FORMATS),
        ("vit", torch.contiguous_format),
    ],
)
def test_maps_are_the_same_on_torchvision(name, memory_format, monkeypatch):
    model = build(name).to(memory_format=memory_format)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    images = images.contiguous(memory_format=memory_format)
    methods = [TGradAttribution(model), FullGradAttribution(model)]
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", 2**40)
    whole = [method.attribute(images, 3) for method in methods]
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", 5000)
    for method, expected in zip(methods, whole, strict=True):
        torch.testing.assert_close(method.attribute(images, 3), expected, **EXACT)


def test_a_signal_is_cut_along_its_only_axis(monkeypatch):
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", 3)
    model = torch.nn.Sequential(
        torch.nn.Conv1d(1, 1, 3), torch.nn.SiLU(), torch.nn.Flatten(), torch.nn.Linear(5, 1)
    ).double()
    signal = torch.randn(2, 1, 7).double()
    expected = reference.tgrad(model, signal, 0)
    torch.testing.assert_close(TGradAttribution(model).attribute(signal, 0), expected, **EXACT)
    first = LayerTGradAttribution(model, model[0]).attribute(signal, 0)
    torch.testing.assert_close(first, reference.tgrad(model[1:], model[0](signal).detach(), 0))
