"""``aggregation="levels"``: each resolution counts alike, the coarsest one guides the others."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.maps.grid import Grid
from captum_tgrad.decomposition.maps.levels import _octave
from tests import levels_reference, reference
from tests.networks import TINY_NETWORKS, each_network

EXACT = {"rtol": 1e-10, "atol": 1e-10}
PLACED = [tiny for tiny in TINY_NETWORKS.values() if tiny.conventional]
signs = pytest.mark.parametrize("sign", ["positive", "negative", "all"])


@cache
def _literal(number):
    tiny = PLACED[number]
    inputs = tiny.inputs if len(tiny.inputs) > 1 else tiny.inputs[0]
    return reference.decompose(tiny.build(), inputs, tiny.target)


@signs
@pytest.mark.parametrize("number", range(len(PLACED)), ids=lambda number: PLACED[number].id)
def test_map_equals_the_reference(number, sign):
    tiny = PLACED[number]
    expected = tuple(
        levels_reference.levels_attribution(_literal(number), sign, index)
        for index in range(len(tiny.inputs))
    )
    actual = TGradAttribution(tiny.build()).attribute(
        tiny.inputs, tiny.target, sign=sign, aggregation="levels"
    )
    torch.testing.assert_close(actual, expected, **EXACT)


def _single_and_double(network, inputs, target):
    """The maps by levels in float32 and in float64, each of the largest value 1."""
    found = []
    for dtype in (torch.float32, torch.float64):
        given = tuple(x.to(dtype) for x in inputs)
        whole = TGradAttribution(network.to(dtype)).decompose(given, target)
        maps = whole.map(aggregation="levels").double()
        found.append(maps / maps.max() if maps.any() else maps)
    return found


@each_network
def test_single_precision_is_enough(tiny):
    # A level of rounding noise would be scaled up to the others.
    single, double = _single_and_double(tiny.build(), tiny.inputs, tiny.target)
    torch.testing.assert_close(single, double, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0"])
def test_single_precision_is_enough_for_real_networks(name):
    network = torchvision.models.get_model(name, weights=None).eval()
    single, double = _single_and_double(network, (torch.randn(1, 3, 96, 96),), 1)
    assert float((single - double).abs().max()) < 1e-2


def test_single_precision_is_enough_if_a_norm_cancels_all_but_a_ten_millionth():
    # The input's score is about eps / variance, which is real in float64 and rounding in float32.
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, bias=False), nn.GroupNorm(2, 6, eps=1e-5), nn.ReLU(),
        nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 3),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network[1].parameters():
            parameter.add_(torch.rand(6))
    for target in range(3):
        single, double = _single_and_double(network, (20 * torch.randn(2, 3, 16, 16),), target)
        torch.testing.assert_close(single, double, rtol=0, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(
    "activation",
    [nn.CELU, nn.ELU, nn.GELU, nn.Hardswish, nn.Mish, nn.SELU, nn.SiLU, nn.Sigmoid, nn.Softplus,
     nn.Softsign, nn.Tanh],
)  # fmt: skip
def test_single_precision_is_enough_where_an_activation_is_nearly_linear(activation, scale):
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        activation(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, bias=False),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    ).eval()
    x = scale * torch.randn(1, 3, 32, 32)
    found = [_single_and_double(network, (x,), target) for target in range(3)]
    assert any(single.any() for single, _ in found)
    for single, double in found:
        assert float((single - double).abs().max()) < 1e-2


class _TwoLevels(nn.Module):
    """Four pixels, of which a bias sees two at a time: every number below is done by hand."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = torch.tensor(weights or (1.0, 3.0, -2.0, 2.0))

    def forward(self, x):
        pairs = F.avg_pool1d(x * self.weights.to(x), 2) * 2
        return (pairs + torch.tensor([2.0, -1.0]).to(x)).sum((1, 2))


def test_a_map_by_hand():
    x = torch.ones(1, 1, 4).double()
    # The input's contributions are 1, 3, -2 and 2: their sum is 4, and 8 without signs. Those of
    # the constant are 2 and -1.
    scores = {term.name: float(term.score) for term in TGradAttribution(_TwoLevels()).decompose(x)}
    assert scores == {"input": 4, "add": 1}
    # Enlarged, the constant's evidence (2, 0) is (2, 1.5, 0.5, 0), which sums to 4.
    fine = torch.tensor([1.0, 3.0, 0.0, 2.0]).double() / 6
    coarse = torch.tensor([2.0, 1.5, 0.5, 0.0]).double() / 4
    expected = coarse**0.75 * (fine + coarse)
    expected *= 5 / expected.sum()
    found = TGradAttribution(_TwoLevels()).attribute(x, aggregation="levels")
    torch.testing.assert_close(found[0, 0], expected, **EXACT)
    # Against: only the elements -2 and -1 are, and no term speaks against the output as a whole.
    assert (
        not TGradAttribution(_TwoLevels()).attribute(x, aggregation="levels", sign="negative").any()
    )


def test_a_small_term_beside_much_evidence_that_cancels_counts_in_float32_too():
    net, x = _TwoLevels(65536.0, 4.0, -65536.0, 2.0), torch.ones(1, 1, 4)
    fine = torch.tensor([65536.0, 4.0, 0.0, 2.0]) / 65542
    coarse = torch.tensor([2.0, 1.5, 0.5, 0.0]) / 4
    expected = coarse**0.75 * (fine + coarse)
    expected *= 7 / expected.sum()
    for dtype in (torch.float32, torch.float64):
        found = TGradAttribution(net).attribute(x.to(dtype), aggregation="levels")[0, 0]
        torch.testing.assert_close(found, expected.to(dtype), rtol=1e-5, atol=1e-5)


class _Net(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.fine = nn.Conv2d(channels, 4, 3, padding=1)
        self.coarse = nn.Conv2d(4, 6, 3, stride=4, padding=1)
        self.head = nn.Linear(6, 5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.4
        self.double().eval()

    def forward(self, x):
        return self.head(F.relu(self.coarse(F.relu(self.fine(x)))).mean((2, 3)))


def _images(count=3, size=16):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0)).double()


def test_a_sample_that_nothing_speaks_for_has_a_map_of_zeros_beside_others():
    class Signed(_Net):
        def forward(self, x):
            return super().forward(x).square().sum(1) * torch.tensor([1.0, -1.0, 0.0]).to(x)

    x = _images()
    positive = TGradAttribution(Signed()).attribute(x, aggregation="levels")
    negative = TGradAttribution(Signed()).attribute(x, aggregation="levels", sign="negative")
    assert positive.isfinite().all()
    assert negative.isfinite().all()
    assert positive[0].any()
    assert negative[1].any()
    assert not positive[2].any()
    assert not negative[2].any()
    alone = TGradAttribution(lambda x: _Net()(x).square().sum(1)).attribute(
        x[:1], aggregation="levels"
    )
    torch.testing.assert_close(positive[:1], alone, **EXACT)


def test_a_multiple_of_the_output_has_that_multiple_of_the_map():
    net, x = _Net(), _images()
    one = TGradAttribution(net).attribute(x, 1, aggregation="levels")
    for k in (10, 1e-9):
        found = TGradAttribution(lambda x, k=k: k * net(x)).attribute(x, 1, aggregation="levels")
        torch.testing.assert_close(found, k * one, rtol=1e-10, atol=0)


def test_channels_share_the_map():
    method, x = TGradAttribution(_Net()), _images()
    found = method.attribute(x, 2, aggregation="levels")
    torch.testing.assert_close(found[:, :1].expand_as(found), found, **EXACT)
    assert not found.allclose(method.attribute(x, 2))


@pytest.mark.parametrize(
    ("sides", "octave"),
    [
        ((1,), 0),
        ((2**0.5,), 0),  # halves are rounded down
        ((2 ** (0.5 + 5e-7),), 0),  # also if they are not exact
        ((1.42,), 1),
        ((2.82,), 1),
        ((2.83,), 2),
        ((1, 4), 1),
        ((2, 4), 1),
        ((2, 4.01), 2),
        ((1, 2, 16), 2),
    ],
)
def test_a_level_is_an_octave_of_the_mean_side_of_a_cell(sides, octave):
    assert _octave(Grid((), (16,) * len(sides), sides)) == octave


def test_resolutions_that_differ_by_a_border_are_one_level():
    kernel = torch.rand(3, 3, 3, 3, generator=torch.Generator().manual_seed(1)).double()

    def unpadded(x):  # 16, 14 and 12 pixels
        inner = F.conv2d(x, kernel, kernel.sum((1, 2, 3)))
        return (F.conv2d(inner, kernel, -kernel.mean((1, 2, 3))) ** 2).sum((1, 2, 3))

    decomposition = TGradAttribution(unpadded).decompose(_images(1))
    assert {term.resolution for term in decomposition} == {"16 x 16", "14 x 14", "12 x 12"}
    maps = []
    for term in decomposition:
        weight = float(term.score) / float((term.positive + term.negative).sum())
        net = (term.positive - term.negative).clamp(min=0)
        if weight > 0:
            maps.append(weight * reference.phi(net, (16, 16)))
    expected = sum(maps) / sum(maps).sum()
    found = TGradAttribution(unpadded).attribute(_images(1), aggregation="levels").sum(1)
    torch.testing.assert_close(found / found.sum(), expected[:, 0], **EXACT)


@pytest.mark.filterwarnings("ignore:An operation loses the positions")
def test_a_bias_that_is_rounding_makes_no_level():
    net, x = _Net(), _images()

    def through_frequencies(x):  # linear, at a resolution of its own, but for rounding
        inner = F.avg_pool2d(F.relu(net.fine(x)), 2)
        inner = torch.fft.ifft2(torch.fft.fft2(inner)).real
        return net.head(F.relu(net.coarse(F.interpolate(inner, scale_factor=2.0))).mean((2, 3)))

    def plain(x):
        inner = F.avg_pool2d(F.relu(net.fine(x)), 2)
        return net.head(F.relu(net.coarse(F.interpolate(inner, scale_factor=2.0))).mean((2, 3)))

    one, other = (
        TGradAttribution(each).attribute(x, 1, aggregation="levels")
        for each in (through_frequencies, plain)
    )
    torch.testing.assert_close(one, other, **EXACT)


def test_a_table_has_the_attributions_of_the_paper():
    mlp = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    table = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    method = TGradAttribution(mlp)
    paper = method.attribute(table, 1)
    torch.testing.assert_close(method.attribute(table, 1, aggregation="levels"), paper)


def test_without_terms_that_have_a_place_the_map_is_even():
    found = TGradAttribution(lambda x: x.mean((1, 2, 3)) * 0 + 3).attribute(
        _images(), aggregation="levels"
    )
    torch.testing.assert_close(found, torch.full_like(found, 3 / found[0].numel()), **EXACT)


@pytest.mark.parametrize("sign", ["positive", "all"])
def test_a_layer_s_map(sign):
    net, x = _Net(), _images()
    layer = LayerTGradAttribution(net, net.fine).attribute(x, 1, aggregation="levels", sign=sign)
    activation = net.fine(x).detach()
    rest = TGradAttribution(lambda a: net.head(F.relu(net.coarse(F.relu(a))).mean((2, 3))))
    expected = rest.attribute(activation, 1, aggregation="levels", sign=sign)
    torch.testing.assert_close(layer, expected, **EXACT)


def test_an_unknown_aggregation_is_refused():
    net = _Net()
    for method in (TGradAttribution(net), LayerTGradAttribution(net, net.fine)):
        with pytest.raises(ValueError, match="aggregation must be 'paper' or 'levels', got 'mean'"):
            method.attribute(_images(), 1, aggregation="mean")


def test_the_term_of_a_class_token_makes_no_level():
    patches, norm = nn.Conv2d(3, 8, 4, stride=4).double(), nn.LayerNorm(8).double()
    token, head = torch.randn(1, 1, 8).double(), nn.Linear(8, 3).double()
    nn.init.normal_(norm.bias)

    def tokens(x):
        every = patches(x).flatten(2).mT
        every = torch.cat([token.expand(len(x), -1, -1), F.gelu(every)], 1)
        return every + F.scaled_dot_product_attention(every, every, every)

    image = torch.randn(2, 3, 16, 16).double()
    for target in range(3):
        found, expected = (
            TGradAttribution(forward).attribute(image, target, aggregation="levels")
            for forward in (
                lambda x: head(norm(tokens(x))[:, 0]),
                lambda x: head(norm(tokens(x)[:, 0])),
            )
        )
        torch.testing.assert_close(found, expected)


def test_a_term_of_one_pixel_makes_no_level():
    net, x = _Net(), _images()

    def forward(constant):
        return lambda x: net(x)[:, 1] + (x[:, :, 2:3, 3:4] + constant).sum((1, 2, 3))

    without, found = (
        TGradAttribution(forward(constant)).decompose(x).map(aggregation="levels")
        for constant in (0, 3)
    )
    shares = [each / each.sum((1, 2, 3), keepdim=True) for each in (found, without)]
    torch.testing.assert_close(*shares, **EXACT)
