"""Large activations are reduced a few samples at a time, with the same result."""

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition import maps


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
