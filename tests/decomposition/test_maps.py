"""Activations are reduced to the cells of a map in few steps, with the same result."""

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition import maps
from captum_tgrad.decomposition.places.reduction import reduction


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
    monkeypatch.setattr(maps, "ELEMENTS_OF_A_BLOCK", elements)
    parts = TGradAttribution(model).decompose(inputs, target=1)
    for one, other in zip(whole.terms, parts.terms, strict=True):
        assert one.name == other.name
        for field in ("positive", "negative", "score"):
            torch.testing.assert_close(getattr(one, field), getattr(other, field))


@pytest.mark.parametrize("least", [0, 2**40])
def test_masked_elements_without_a_gradient_count_as_zero(monkeypatch, least):
    """The softmax of a row of -inf is NaN, and so is its gradient."""
    monkeypatch.setattr(maps, "_WORTH_A_CHECK", least)
    x, weights = torch.rand(2, 3, 4).double(), torch.rand(4).double()
    mask = torch.tensor([True, True, False])[:, None]

    def masked(x):
        attended = torch.softmax(torch.where(mask, x * 3 + 1, -torch.inf), -1)
        return (torch.where(mask, attended, 0) * weights).sum((1, 2))

    def short(x):
        return (torch.softmax(x[:, :2] * 3 + 1, -1) * weights).sum((1, 2))

    found, expected = (TGradAttribution(f).decompose(x, channel_dim=-1) for f in (masked, short))
    torch.testing.assert_close(found.delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
    for name in ("softmax", "add"):
        torch.testing.assert_close(found[name].score, expected[name].score)


def test_attention_scores_are_summed_over_keys_before_queries_are_added_up(monkeypatch):
    """Places of queries depend on one dimension, so that few elements are added one by one."""
    found = []

    def reduced(*arguments):
        found.append(reduction(*arguments))
        return found[-1]

    def network(x):  # windows of 4 x 4 tokens
        x = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(2, 3, 0, 4, 5, 1).reshape(-1, 16, 3)
        x = torch.softmax(x @ x.mT, -1) @ x
        return x.view(4, -1, 16, 3).sum((0, 2))

    monkeypatch.setattr(maps, "reduction", reduced)
    TGradAttribution(network).attribute(torch.rand(2, 3, 8, 8).double(), target=0)
    shapes = [index.shape for each in found for index in each.indices if index.dim() == 3]
    assert (8, 16, 1) in shapes
    assert (8, 1, 16) in shapes
    assert (8, 16, 16) not in shapes
