"""A later call on inputs of the same shape finds no places again, also if it is recorded."""

import gc
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.maps.reduction import Reduction
from captum_tgrad.decomposition.places import bounded_cache
from captum_tgrad.decomposition.places.places import make_places
from captum_tgrad.decomposition.replay import replay
from tests.networks.replayed import Gated, Moved, Tokens, ready


class Windows(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(3, 9)
        self.head = nn.Linear(3, 3)

    def forward(self, images):
        rolled = images.roll((-2, -2), (2, 3)).permute(0, 2, 3, 1)
        windows = rolled.reshape(-1, 4, 4, 4, 4, 3).transpose(2, 3).reshape(-1, 16, 3)
        query, key, value = self.qkv(windows).chunk(3, -1)
        mixed = (query @ key.transpose(-1, -2)).softmax(-1) @ value
        return self.head(F.pad(mixed, (0, 0, 1, 1)).mean(1)).reshape(len(images), -1, 3).mean(1)


class CellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(48, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, images):
        state, states = None, []
        for row in images.transpose(1, 2).flatten(2).unbind(1):
            state = self.cell(row, state)
            states.append(state)
        return self.head(torch.stack(states, 1).mean(1))


class Graph(nn.Module):
    """Sums over neighbors, by constant indices that are made anew in each call."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(48, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, images):
        nodes = self.first(images.transpose(1, 2).flatten(2))
        start, end = torch.arange(16).repeat(2), torch.arange(32).div(2, rounding_mode="floor")
        nodes = nodes + torch.zeros_like(nodes).index_add(1, end, nodes[:, start])
        index = end[:, None].expand(-1, 6).expand_as(nodes[:, start])
        nodes = nodes.scatter_add(1, index, self.second(nodes).tanh().index_select(1, start))
        nodes = nodes.masked_fill(torch.arange(16)[:, None] == 3, -5)
        return self.head(nodes.gather(1, index[:, :4]).mean(1))


@pytest.mark.parametrize("network", [Tokens, Gated, Moved, Windows, CellLoop, Graph])
def test_no_places_are_found_again(network, monkeypatch):
    monkeypatch.setattr(replay.Replay, "pass_of", lambda *arguments: None)
    size = 9 if network in (Tokens, Gated, Moved) else 16
    method, images = TGradAttribution(ready(network())), torch.rand(2, 3, size, size)
    found = []

    def count(frame, event, argument):
        if event == "call" and frame.f_code is make_places.__code__:
            found.append(frame.f_back.f_code.co_name)

    expected = method.attribute(images, target=1)
    sys.setprofile(count)
    try:
        again = method.attribute(images, target=1)
    finally:
        sys.setprofile(None)
    torch.testing.assert_close(again, expected)
    assert not found


def test_other_indices_are_other_places():
    order = torch.arange(4)

    def picked(x):
        return x.index_select(1, order).tanh()[:, :2].sum((1, 2))

    def added(x):
        return torch.zeros_like(x).index_add(1, order, x).tanh()[:, :2].sum((1, 2))

    method = [TGradAttribution(picked), TGradAttribution(added)]
    x = torch.rand(1, 4, 3)
    for order in (torch.arange(4), torch.arange(4).flip(0), torch.tensor([1, 1, 0, 0])):
        expected = torch.zeros(4, dtype=torch.bool)
        expected[order[:2]] = True
        is_placed = method[0].attribute(x, channel_dim=2).abs().sum((0, 2)) > 0
        torch.testing.assert_close(is_placed, expected)
        expected = order < 2
        is_placed = method[1].attribute(x, channel_dim=2).abs().sum((0, 2)) > 0
        torch.testing.assert_close(is_placed, expected)


def test_a_column_of_indices_is_not_a_row_of_the_same_indices():
    order = torch.tensor([3, 0, 1, 2])
    for index, picked in ((order[:, None], 3), (order, 0)):
        method = TGradAttribution(
            lambda x, index=index: x[:, 0].gather(2, index.expand(1, 4, 4)).tanh()[:, 0, 1]
        )
        is_placed = method.attribute(torch.rand(1, 1, 4, 4)).nonzero()
        assert is_placed.tolist() == [[0, 0, 0, picked]]


def test_what_is_kept_of_many_shapes_is_bounded(monkeypatch):
    most = 2**16
    monkeypatch.setattr(bounded_cache, "_MOST", most)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Softplus(), nn.Flatten()).eval()
    method = TGradAttribution(lambda x: network(x.flip(3)).sum(1))
    for size in range(100, 130):
        _ = method.attribute(torch.rand(1, 3, size, 100))
    kept = [each for each in gc.get_objects() if type(each) is Reduction]
    assert 0 < sum(index.numel() for each in kept for index in each.indices) < most
