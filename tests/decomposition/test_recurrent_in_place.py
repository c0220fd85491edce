"""What recurrent layers and cells have read or returned may be overwritten."""

import copy
import gc
import weakref
from functools import partial

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import (
    assert_complete,
    assert_input_term_is_gradient_times_input,
    randn,
)


def _output_without_gradients(x, layer):
    output, state = layer(x)
    with torch.no_grad():
        output.zero_()
    return (state[0] if isinstance(state, tuple) else state).tanh().sum((0, 2))


def _residual(x, layer):
    z = x * 1.0
    return z.add_(layer(z)[0]).sum((1, 2))


def _data(x, layer):
    z = x * 1.0
    y, _ = layer(z)
    z.data.zero_()
    return y.sum((1, 2))


def _weights(x, layer):
    y, _ = layer(x)
    with torch.no_grad():
        layer.bias_ih_l0.mul_(1.0)
    return y.sum((1, 2))


@pytest.mark.parametrize("overwrites", [_output_without_gradients, _residual, _data, _weights])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_a_layer_has_read_or_returned_may_be_overwritten(overwrites, kind):
    _assert_exact(partial(overwrites, layer=kind(3, 3, batch_first=True).double()))


def _assert_exact(network):
    x = randn(2, 5, 3, seed=1)
    whole = TGradAttribution(network).decompose(x, channel_dim=2)
    assert_complete(whole, atol=1e-11)
    assert_input_term_is_gradient_times_input(whole, network, x)


def test_states_that_a_layer_returns_may_be_overwritten():
    layer = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True).double()

    def network(x):
        y, (h, c) = layer(x)
        h.mul_(2)  # which the biases of the others must not notice
        return y.sum((1, 2)) + (h * h).sum((0, 2)) + c.sum((0, 2)) * y[:, 0, 0]

    _assert_exact(network)


def test_a_buffer_that_a_layer_has_read_may_be_overwritten():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(3, 3, batch_first=True).double()
            self.register_buffer("state", torch.zeros(1, 2, 3).double())

        def forward(self, x):
            y, state = self.layer(x, self.state)
            with torch.no_grad():
                self.state.copy_(state)
            return y.sum((1, 2))

    first = Network()
    whole = TGradAttribution(copy.deepcopy(first)).decompose(randn(2, 5, 3, seed=1), channel_dim=2)
    assert_complete(whole, atol=1e-12)
    assert_input_term_is_gradient_times_input(whole, first, randn(2, 5, 3, seed=1))


def _of_one_state(x, cell):
    state, total = torch.zeros(2, 3).double(), 0
    for step in x.unbind(1):
        state = cell(step, state)
        state[0] = 0
        state *= 0.9
        total = total + state.sum(1)
    return total


def _of_two_states(x, cell):
    hidden = cell_state = torch.zeros(2, 3).double()
    total = 0
    for step in x.unbind(1):
        hidden, cell_state = cell(step, (hidden, cell_state))
        hidden += cell_state
        hidden[0] = 0
        cell_state *= hidden
        total = total + (hidden * cell_state).sum(1)
    return total


@pytest.mark.parametrize(
    ("network", "kind"), [(_of_one_state, nn.GRUCell), (_of_two_states, nn.LSTMCell)]
)
def test_states_of_a_cell_may_be_overwritten(network, kind):
    _assert_exact(partial(network, cell=kind(3, 3).double()))


@pytest.mark.parametrize("what", ["input", "output", "states", "weights"])
def test_what_an_lstm_that_torch_runs_as_one_operation_reads_may_be_overwritten(what):
    layer, x = nn.LSTM(3, 3, batch_first=True), torch.randn(2, 5, 3)

    def network(x, in_place=True):
        z = x * 1.0
        first = (torch.zeros(1, 2, 3), z[None, :, 0] * 1.0)
        y, (_, cell) = layer(z, first)
        if what == "input":
            y = z.add_(y) if in_place else z + y
        if what == "output":
            y = y.exp_() if in_place else y.exp()
        if what == "states":
            cell = cell.exp_() if in_place else cell.exp()
        if in_place and what == "states":
            first[1].mul_(0.0)
        if in_place and what == "weights":
            with torch.no_grad():
                layer.weight_hh_l0.mul_(1.0)
        return y.square().sum((1, 2)) + cell.sum((0, 2))

    whole = TGradAttribution(network).decompose(x, channel_dim=2)
    assert_input_term_is_gradient_times_input(whole, partial(network, in_place=False), x)
    assert_complete(whole, atol=1e-5)


def test_weights_overwritten_behind_the_trace_are_an_error():
    layer = nn.GRU(3, 3, batch_first=True)
    overwrite = torch.jit.script(_double)

    def network(x):
        y, _ = layer(x)
        with torch.no_grad():
            overwrite(layer.weight_hh_l0)
        return y.sum((1, 2))

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        TGradAttribution(network).attribute(torch.randn(2, 5, 3), channel_dim=2)


def _double(weight: torch.Tensor):
    weight.mul_(2.0)


@pytest.mark.parametrize("how", ["layer", "cell"])
def test_what_reads_an_overwritten_input_is_freed(how):
    layer, cell = nn.LSTM(3, 3, batch_first=True), nn.GRUCell(3, 3)
    freed = []

    def network(x):
        z = x * 1.0
        if how == "layer":
            z.add_(layer(z)[0])
        else:
            z = z.sum(1)
            z.copy_(cell(x[:, 0], z))
        freed.append(weakref.ref(z))
        return z.flatten(1).sum(1)

    TGradAttribution(network).attribute(torch.randn(2, 5, 3), channel_dim=2)
    gc.collect()
    assert freed[0]() is None
