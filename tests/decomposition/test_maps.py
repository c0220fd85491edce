"""Activations are reduced to the cells of a map in few steps, with the same result."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.maps import enlarging, redistribution, reduction, summing
from tests.decomposition.checks import assert_complete, randn


@pytest.mark.parametrize("elements", [1, 200, 700])
def test_any_number_of_samples_at_a_time_gives_the_same(monkeypatch, elements):
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU6(), nn.SiLU(), nn.Conv2d(6, 4, 1),
            nn.Softmax(1), nn.Flatten(), nn.Linear(144, 3), nn.LayerNorm(3), nn.Linear(3, 2),
        ).eval().double()  # fmt: skip
        inputs = 5 * torch.randn(5, 3, 8, 8, dtype=torch.float64)
    whole = TGradAttribution(model).decompose(inputs, target=1)
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", elements)
    parts = TGradAttribution(model).decompose(inputs, target=1)
    for one, other in zip(whole.terms, parts.terms, strict=True):
        assert one.name == other.name
        for field in ("positive", "negative", "score"):
            torch.testing.assert_close(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("least", [0, 2**40])
def test_masked_elements_without_a_gradient_count_as_zero(monkeypatch, least):
    """The softmax of a row of -inf is NaN, and so is its gradient."""
    monkeypatch.setattr(summing, "_WORTH_A_CHECK", least)
    x, weights = torch.rand(2, 3, 4).double(), torch.rand(4).double()
    mask = torch.tensor([True, True, False])[:, None]

    def masked(x):
        attended = torch.softmax(torch.where(mask, x * 3 + 1, -torch.inf), -1)
        return (torch.where(mask, attended, 0) * weights).sum((1, 2))

    def short(x):
        return (torch.softmax(x[:, :2] * 3 + 1, -1) * weights).sum((1, 2))

    found, expected = (TGradAttribution(f).decompose(x, channel_dim=-1) for f in (masked, short))
    assert_complete(found, atol=1e-12)
    for name in ("softmax", "add"):
        torch.testing.assert_close(found[name].score, expected[name].score)


def test_attention_scores_are_summed_over_keys_before_queries_are_added_up(monkeypatch):
    """Places of queries depend on one dimension, so that few elements are added one by one."""
    found = []

    def reduced(*arguments):
        found.append(reduction.reduction(*arguments))
        return found[-1]

    def network(x):  # windows of 4 x 4 tokens
        x = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(2, 3, 0, 4, 5, 1).reshape(-1, 16, 3)
        x = torch.softmax(x @ x.mT, -1) @ x
        return x.view(4, -1, 16, 3).sum((0, 2))

    monkeypatch.setattr(summing, "reduction", reduced)
    TGradAttribution(network).attribute(torch.rand(2, 3, 8, 8).double(), target=0)
    shapes = [index.shape for each in found for index in each.indices if index.dim() == 3]
    assert (8, 16, 1) in shapes
    assert (8, 1, 16) in shapes
    assert (8, 16, 16) not in shapes
    assert ({0, 1}, {0, 2}) in [each.kept_by_sum for each in found]


@pytest.mark.parametrize("elements", [1, 30, 100, 2**20])
def test_half_of_a_score_belongs_to_its_query_and_half_to_its_key(monkeypatch, elements):
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", elements)
    weights = randn(3, 7, 7, seed=1)

    def scores(x):  # of three heads
        heads = x.unflatten(2, (3, 2)).transpose(1, 2)
        return heads @ heads.mT

    method = TGradAttribution(lambda x: (scores(x) * weights).sum((1, 2, 3)))
    for x in (randn(2, 7, 6), randn(1, 7, 6)):
        term = method.decompose(x, channel_dim=2)["matmul"]
        for found, sign in ((term.positive, -1), (term.negative, 1)):
            # The bias of a product of two is -y.
            evidence = (sign * scores(x) * weights).relu().sum(1)
            expected = (evidence.sum(1) + evidence.sum(2)) / 2
            torch.testing.assert_close(found.flatten(1), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("number", [0.0, -torch.inf])
def test_a_mask_has_no_term(number):
    mask = torch.ones(5, 5).triu(1).bool()
    writings = [
        lambda x: x.masked_fill(mask, number),
        lambda x: torch.where(mask, number, x),
        lambda x: x.clone().masked_fill_(mask=mask, value=number),
        lambda x: x.index_fill(2, torch.tensor(3), number),
    ]
    for write in writings:
        method = TGradAttribution(lambda x, write=write: write(x).softmax(2)[..., 0])
        decomposed = method.decompose(torch.rand(1, 5, 5), target=3, channel_dim=2)
        assert [term.name for term in decomposed.biases] == ["softmax"]


NETWORKS = {
    "strides": lambda x: F.avg_pool2d(F.silu(F.conv2d(x, KERNEL, stride=2)), 3, stride=2).pow(2),
    "crop": lambda x: F.conv2d(x[..., 3:-2, 1:], KERNEL).sigmoid(),
    "crop_of_each": lambda x: torch.stack([x[0, :, 2:9, :7], x[1, :, 4:11, 6:13]]).sigmoid(),
    "fine_and_coarse": lambda x: torch.cat([x.flatten(2), F.avg_pool2d(x, 4).flatten(2)], 2).tanh(),
}
KERNEL = torch.rand(2, 3, 3, 3, generator=torch.Generator().manual_seed(0)).double() - 0.4


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_large_maps_are_enlarged_as_small_ones(monkeypatch, network, aggregation):
    inputs = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).double()

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Identity()

        def forward(self, x):
            return network(self.first(x)).sum((1, *range(2, network(x).dim())))

    def explained():
        for cache in (reduction._cache, enlarging._cache):
            cache._values.clear()
        method = TGradAttribution(Network())
        found = [method.attribute(inputs, aggregation=aggregation)]
        found += [term.positive for term in method.decompose(inputs)]
        model = Network()
        layer = LayerTGradAttribution(model, model.first)
        return [*found, layer.attribute(inputs, aggregation=aggregation)]

    dense = explained()
    monkeypatch.setattr(redistribution, "_MOST_IN_DENSE", 0)
    with torch.device("meta"):  # a default device that the user has set
        sparse = explained()
    for one, other in zip(dense, sparse, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_a_long_sequence_is_enlarged_by_interpolation():
    generator = torch.Generator().manual_seed(0)
    kernel = torch.rand(1, 1, 10, generator=generator, dtype=torch.float64)
    inputs = torch.rand(1, 1, 100_000, generator=generator, dtype=torch.float64)
    method = TGradAttribution(lambda x: (F.conv1d(x, kernel, stride=5) + 1).log().sum((1, 2)))
    found = method.attribute(inputs).flatten()
    own, *biases = method.decompose(inputs)
    expected = own.positive.flatten() / own.positive.sum() * own.score.clamp_min(0)
    for term in biases:
        coarse = term.positive.flatten().numpy()
        middles = (np.arange(len(coarse)) + 0.5) * len(found) / len(coarse) - 0.5
        wide = torch.from_numpy(np.interp(np.arange(len(found)), middles, coarse))
        expected += wide / wide.sum() * term.score.clamp_min(0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
