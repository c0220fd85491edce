"""Recurrent layers and cells against the one rule, and against the same network step by step."""

import itertools
import warnings

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.one_rule import bias_from_rule
from captum_tgrad.decomposition.operations.operation_table import operation_of
from captum_tgrad.decomposition.operations.recurrent import with_backward

LAYERS = {
    "lstm": (nn.LSTM, torch.lstm, {}),
    "gru": (nn.GRU, torch.gru, {}),
    "rnn_tanh": (nn.RNN, torch.rnn_tanh, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNN, torch.rnn_relu, {"nonlinearity": "relu"}),
}
CELLS = {
    "lstm": (nn.LSTMCell, torch.lstm_cell, {}),
    "gru": (nn.GRUCell, torch.gru_cell, {}),
    "rnn_tanh": (nn.RNNCell, torch.rnn_tanh_cell, {"nonlinearity": "tanh"}),
    "rnn_relu": (nn.RNNCell, torch.rnn_relu_cell, {"nonlinearity": "relu"}),
}
FORMS = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "batch_first": True},
    {"bias": False, "batch_first": True},
    {"num_layers": 2, "bias": False},
]


def _random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def _compare(func, args):
    record = operation_of(func)
    call = Call(func, args, {}, record)
    result = call()
    call.returned = [result] if isinstance(result, torch.Tensor) else list(result)
    outputs = [output for output in call.returned if output.requires_grad]
    with torch.no_grad():
        expected = bias_from_rule(call, outputs, None)
        for output, rule in zip(outputs, expected, strict=True):
            closed = record.bias(call, output)
            torch.testing.assert_close(closed.value(), rule.value(), rtol=1e-10, atol=1e-12)
    return outputs


@pytest.mark.parametrize("depends", list(itertools.product([True, False], repeat=2))[:3])
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_has_the_bias_of_the_one_rule(name, form, depends):
    kind, func, options = LAYERS[name]
    torch.manual_seed(0)
    layer = kind(3, 4, **options, **form).double().requires_grad_(False)
    count = layer.num_layers * (1 + layer.bidirectional)
    steps = _random(2, 5, 3, seed=0) if layer.batch_first else _random(5, 2, 3, seed=0)
    states = [_random(count, 2, 4, seed=1), _random(count, 2, 4, seed=2)][: 1 + (name == "lstm")]
    steps.requires_grad_(depends[0])
    for state in states:
        state.requires_grad_(depends[1])
    start = states if name == "lstm" else states[0]
    weights = layer._flat_weights
    _compare(
        func,
        (steps, start, weights, layer.bias, layer.num_layers, 0.0, False, layer.bidirectional,
         layer.batch_first),
    )  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_the_same_function_with_the_backward_pass_of_a_gpu(name, packed):
    kind, func, options = LAYERS[name]
    torch.manual_seed(0)
    layer = kind(3, 4, 2, dropout=0.5, bidirectional=True, **options).eval()
    steps = torch.randn(5, 2, 3)
    if packed:
        data, sizes, *_ = nn.utils.rnn.pack_padded_sequence(steps, [5, 3])
        given = (data, sizes)
    else:
        given = (steps,)
    states = [torch.randn(4, 2, 4), torch.randn(4, 2, 4)][: 1 + (name == "lstm")]
    start = states if name == "lstm" else states[0]
    args = (*given, start, layer._flat_weights, True, 2, 0.5, False, True, False)[:9]
    changed = with_backward(args)
    assert changed[7 if packed else 6] is True
    for one, other in zip(func(*changed), func(*args), strict=True):
        assert torch.equal(one, other)
    assert with_backward(changed) == changed


@pytest.mark.parametrize("depends", list(itertools.product([True, False], repeat=2))[:3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_bias_of_the_one_rule(name, bias, depends):
    kind, func, options = CELLS[name]
    torch.manual_seed(0)
    cell = kind(3, 4, bias=bias, **options).double().requires_grad_(False)
    step = _random(2, 3, seed=0).requires_grad_(depends[0])
    states = [_random(2, 4, seed=n).requires_grad_(depends[1]) for n in (1, 2)]
    start = tuple(states) if name == "lstm" else states[0]
    _compare(func, (step, start, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))


class _ByCell(nn.Module):
    """A layer of one direction as a loop over its cell."""

    def __init__(self, layer, cell):
        super().__init__()
        self.cell = cell
        for name, parameter in cell.named_parameters():
            parameter.data = getattr(layer, f"{name}_l0").data

    def forward(self, steps):
        state, outputs = None, []
        for step in steps.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_says_the_same_as_its_cell(name):
    torch.manual_seed(0)
    layer = LAYERS[name][0](3, 4, batch_first=True, **LAYERS[name][2]).double()
    by_cell = _ByCell(layer, CELLS[name][0](3, 4, **CELLS[name][2]).double())
    x, weights = _random(2, 6, 3, seed=3), _random(6, 4, seed=4)
    wholes = [
        TGradAttribution(lambda x, net=net: (net(x) * weights).sum((1, 2))).decompose(
            x, channel_dim=2
        )
        for net in (lambda x: layer(x)[0], by_cell)
    ]
    torch.testing.assert_close(wholes[0].input.positive, wholes[1].input.positive)
    for whole in wholes:
        torch.testing.assert_close(whole.delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
    totals = [sum(term.score for term in whole.biases) for whole in wholes]
    torch.testing.assert_close(*totals, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "form", [{"proj_size": 2}, {"num_layers": 2, "dropout": 0.5}, {"num_layers": 2}], ids=str
)
def test_other_forms_are_exact_too(form):
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, batch_first=True, **form).double().eval()
    x = _random(2, 5, 3, seed=5)
    whole = TGradAttribution(lambda x: layer(x)[0].sum((1, 2))).decompose(x, channel_dim=2)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
    assert bool((whole.placed > 0.9).all())


def test_all_outputs_of_a_layer():
    torch.manual_seed(0)
    layer = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=True).double()

    def network(x):
        y, (h, c) = layer(x)
        h.mul_(2)  # which the biases of the others must not notice
        return y.sum((1, 2)) + (h * h).sum((0, 2)) + c.sum((0, 2)) * y[:, 0, 0]

    whole = TGradAttribution(network).decompose(_random(2, 5, 3, seed=6))
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_between_layers_drops_the_same_units_again(name):
    torch.manual_seed(0)
    kind, _, options = LAYERS[name]
    layer = kind(3, 4, 2, dropout=0.5, batch_first=True, **options).double().train()
    x = _random(3, 5, 3, seed=8)
    torch.manual_seed(5)
    layer(x)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    whole = TGradAttribution(lambda x: layer(x)[0].sum((1, 2))).decompose(x, channel_dim=2)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(term.name != "hidden" for term in whole)
    torch.testing.assert_close(whole.delta, torch.zeros(3).double(), rtol=0, atol=1e-12)
    assert bool((whole.placed > 0.99).all())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_autocast_is_no_false_alarm(kind):
    torch.manual_seed(0)
    layer = kind(4, 5, 2, batch_first=True)

    def network(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)[0].float().sum((1, 2))

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        whole = TGradAttribution(network).decompose(torch.randn(3, 6, 4), channel_dim=2)
    # The gates are computed in bfloat16, so that a residual remains, but a small one.
    assert 0 < float(whole.delta.abs().max()) < 0.1


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_an_output_that_is_overwritten_without_gradients(kind):
    class LastState(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = kind(3, 4, batch_first=True)

        def forward(self, steps):
            output, state = self.layer(steps)
            with torch.no_grad():
                output.zero_()
            return (state[0] if kind is nn.LSTM else state)[-1].tanh()

    torch.manual_seed(0)
    model, steps = LastState().double().eval(), torch.randn(2, 5, 3).double()
    whole = TGradAttribution(model).decompose(steps, target=1, channel_dim=-1)
    torch.testing.assert_close(whole.delta, torch.zeros(2).double(), rtol=0, atol=1e-12)
