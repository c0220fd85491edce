"""Recurrent layers and cells against the one rule, and against the same network step by step."""

import itertools
import warnings
from functools import partial

import pytest
import torch
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition import pending_terms
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.one_rule import bias_from_rule
from captum_tgrad.decomposition.operations.operation_table import operation_of
from tests.alive import tensors_left_by
from tests.decomposition.checks import (
    assert_complete,
    assert_input_term_is_gradient_times_input,
    assert_same_maps,
    custom_function,
    randn,
)

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


def _projected(step, state, weights, projection):
    """A step of an LSTM with a projection, by the equations in torch's documentation."""
    hidden, cell = state
    gates = nn.functional.linear(step, weights[0], weights[2])
    i, f, g, o = (gates + nn.functional.linear(hidden, weights[1], weights[3])).chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return [(o.sigmoid() * cell.tanh()) @ projection.T, cell]


def _reference(layer, cell, x, states, depends, output):
    """The positive and the negative part of each step of each layer and direction.

    A loop over the steps. torch's autograd has the gradients at the states after each step, torch's
    forward mode the derivative of the step.
    """
    x = x.clone().requires_grad_(depends[0])
    states = [state.clone().requires_grad_(depends[1]) for state in states]
    here, recorded, ends = x.transpose(0, 1), [], []
    directions = 1 + layer.bidirectional
    per_layer = len(layer._flat_weights) // (layer.num_layers * directions)
    for number in range(layer.num_layers):
        outputs = []
        for direction in range(directions):
            position = number * directions + direction
            weights = layer._flat_weights[position * per_layer : (position + 1) * per_layer]
            projection = weights[-1] if layer.proj_size else None
            weights = [*weights[: 4 if layer.bias else 2], None, None][:4]
            state = [each[position] for each in states]
            depends_here = [depends[0] or number > 0, *[depends[1]] * len(state)]
            steps, found = {}, range(len(here))
            for step in reversed(found) if direction else found:

                def run(step, *state, weights=weights, projection=projection):
                    if projection is not None:
                        return _projected(step, state, weights, projection)
                    found = cell(step, state if len(state) > 1 else state[0], *weights)
                    return list(found) if isinstance(found, tuple) else [found]

                arguments = [here[step], *state]
                values = [value.detach() for value in arguments]
                along = [
                    value if d else torch.zeros_like(value)
                    for value, d in zip(values, depends_here, strict=True)
                ]
                _, derivatives = torch.func.jvp(run, tuple(values), tuple(along))
                state = [value.clone() for value in run(*arguments)]
                for each in state:
                    each.retain_grad()
                biases = [y.detach() - dy for y, dy in zip(state, derivatives, strict=True)]
                steps[step] = (state, biases)
                depends_here = [depends_here[0], *[True] * len(state)]
            recorded.append([steps[step] for step in range(len(here))])
            ends.append(state)
            outputs.append(torch.stack([state[0] for state, _ in recorded[-1]]))
        here = torch.cat(outputs, -1)
    y = here.transpose(0, 1) if layer.batch_first else here
    output(y, [torch.stack(each) for each in zip(*ends, strict=True)]).sum().backward()
    parts = []
    for steps in recorded:
        products = torch.stack(
            [
                torch.cat(
                    [v.grad * b for v, b in zip(*pair, strict=True) if v.grad is not None], -1
                )
                for pair in steps
            ],
            1,
        )
        parts.append((products.clamp_min(0).sum(-1), (-products).clamp_min(0).sum(-1)))
    return x.grad, parts


@pytest.mark.parametrize("depends", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in LAYERS for form in FORMS]
    + [("lstm", {"proj_size": 2, "num_layers": 2}), ("lstm", {"proj_size": 3, "bias": False})],
    ids=str,
)
def test_a_layer_has_the_terms_of_its_steps(name, form, depends):
    _compare_with_steps(name, form, depends, torch.float64, {"rtol": 1e-10, "atol": 1e-12})


@pytest.mark.parametrize("depends", [(True, True), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_layer_that_torch_runs_as_one_operation_has_the_terms_of_its_steps(form, depends):
    _compare_with_steps("lstm", form, depends, torch.float32, {"rtol": 1e-5, "atol": 1e-6})


def _compare_with_steps(name, form, depends, dtype, tolerance):
    """Compares a layer with the same layer in float64, step by step."""
    kind, _, options = LAYERS[name]
    torch.manual_seed(0)
    layer = kind(3, 4, **options, **form).to(dtype).requires_grad_(False)
    count = layer.num_layers * (1 + layer.bidirectional)
    size = form.get("proj_size", 4)
    width = size * (1 + layer.bidirectional)
    x = randn(2, 5, 3, seed=0).to(dtype)
    states = [randn(count, 2, size, seed=1).to(dtype), randn(count, 2, 4, seed=2).to(dtype)]
    states = states[: 1 + (name == "lstm")]
    over_y = randn(2, 5, width, seed=3).to(dtype)
    over_y = over_y if layer.batch_first else over_y.transpose(0, 1)
    over_ends = [randn(count, 1, s.shape[2], seed=4 + n).to(dtype) for n, s in enumerate(states)]

    def output(y, ends):
        whole = (y * over_y).sum((1 if layer.batch_first else 0, 2))
        return whole + sum((e * w).sum((0, 2)) for e, w in zip(ends, over_ends, strict=True))

    def network(*inputs):
        inputs = iter(inputs)
        given = next(inputs) if depends[0] else x
        first = [next(inputs).transpose(0, 1) if depends[1] else state for state in states]
        given = given if layer.batch_first else given.transpose(0, 1)
        y, ends = layer(given, tuple(first) if len(first) > 1 else first[0])
        return output(y, ends if isinstance(ends, tuple) else (ends,))

    inputs = (x,) * depends[0] + tuple(state.transpose(0, 1) for state in states) * depends[1]
    whole = TGradAttribution(network).decompose(
        inputs, channel_dim=(2,) * depends[0] + (None,) * len(states) * depends[1]
    )
    x, states = x.double(), [state.double() for state in states]
    over_y, over_ends = over_y.double(), [over.double() for over in over_ends]
    gradient, expected = _reference(layer.double(), CELLS[name][1], x, states, depends, output)

    def compare(found, wanted):
        torch.testing.assert_close(found.double(), wanted, **tolerance)

    compare(whole.delta, torch.zeros(2).double())
    if depends[0]:
        own = whole.inputs[0]
        compare((own.positive - own.negative).squeeze(1), (gradient * x).sum(2))
    assert len(whole.biases) == len(expected)
    for term, (positive, negative) in zip(whole.biases, expected, strict=True):
        compare(term.score, (positive - negative).sum(1))
        if depends[0]:
            compare(term.maps[0].positive[:, 0], positive / len(term.inputs))
            compare(term.maps[0].negative[:, 0], negative / len(term.inputs))


@pytest.mark.parametrize("depends", list(itertools.product([True, False], repeat=2))[:3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_has_the_bias_of_the_one_rule(name, bias, depends):
    kind, func, options = CELLS[name]
    cell = kind(3, 4, bias=bias, **options).double().requires_grad_(False)
    step = randn(2, 3, seed=0).requires_grad_(depends[0])
    states = [randn(2, 4, seed=n).requires_grad_(depends[1]) for n in (1, 2)]
    start = tuple(states) if name == "lstm" else states[0]
    weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    record = operation_of(func)
    call = Call(func, (step, start, *weights), {}, record)
    result = call()
    call.returned = list(result) if name == "lstm" else [result]
    with torch.no_grad():
        expected = [rule.value() for rule in bias_from_rule(call, call.returned, None)]
        found = record.bias(call, call.returned[0]).value()
    torch.testing.assert_close(found, torch.cat(expected, -1), rtol=1e-10, atol=1e-12)


def test_many_steps_have_the_terms_of_each_step_alone(monkeypatch):
    weights = randn(4, 4, seed=0), randn(4, 4, seed=1)
    gates = randn(16, 4, seed=2), randn(16, 4, seed=3)

    def network(x):
        hidden = other = cell = torch.zeros(2, 4).double()
        for number, step in enumerate(x.unbind(1)):
            hidden = torch.rnn_tanh_cell(step, hidden, *(weights if number % 2 else weights[::-1]))
            # The same memory, but another matrix.
            hidden = torch.rnn_tanh_cell(step, hidden, *(w.T for w in weights))
            other, cell = torch.lstm_cell(hidden, (other, cell), *gates)
            if number == 3:
                other += cell
        return (hidden * other).sum(1)

    x = randn(2, 6, 4, seed=4)
    together = TGradAttribution(network).decompose(x, channel_dim=2)
    monkeypatch.setattr(pending_terms, "_MOST_WAITING", 0)
    alone = TGradAttribution(network).decompose(x, channel_dim=2)
    assert float(together.delta.abs().max()) < 1e-12
    assert len(together.biases) == len(alone.biases)
    for term, expected in zip(together.biases, alone.biases, strict=True):
        torch.testing.assert_close(term.positive, expected.positive, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(term.negative, expected.negative, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_at_steps_may_be_overwritten_after_them(name):
    kind, _, options = CELLS[name]
    cell, x = kind(3, 3, **options).double(), randn(2, 6, 3, seed=3)
    doubled = custom_function(lambda z: 2 * z, lambda z, gradient: gradient.mul_(2))

    def network(x, doubled):
        state = None
        for step in x.unbind(1):
            before = doubled(step)  # its backward runs after that of the cell
            state = cell(step, state)
            hidden, *rest = state if name == "lstm" else (state,)
            added = before + hidden  # which has the same gradient at both
            state = (added, *rest) if name == "lstm" else added
        return (3 * added).sum(1)

    plain = TGradAttribution(lambda x: network(x, lambda z: 2 * z)).decompose(x, channel_dim=2)
    found = TGradAttribution(lambda x: network(x, doubled)).decompose(x, channel_dim=2)
    assert_complete(found, atol=1e-12)
    of_cells = [[term for term in whole if "cell" in term.name] for whole in (found, plain)]
    for term, expected in zip(*of_cells, strict=True):
        torch.testing.assert_close(term.positive, expected.positive)
        torch.testing.assert_close(term.negative, expected.negative)


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
    layer = LAYERS[name][0](3, 4, batch_first=True, **LAYERS[name][2]).double()
    by_cell = _ByCell(layer, CELLS[name][0](3, 4, **CELLS[name][2]).double())
    x, weights = randn(2, 6, 3, seed=3), randn(6, 4, seed=4)
    wholes = [
        TGradAttribution(lambda x, net=net: (net(x) * weights).sum((1, 2))).decompose(
            x, channel_dim=2
        )
        for net in (lambda x: layer(x)[0], by_cell)
    ]
    torch.testing.assert_close(wholes[0].input.positive, wholes[1].input.positive)
    for whole in wholes:
        assert_complete(whole, atol=1e-12)
    (one,) = wholes[0].biases
    found = [torch.zeros(2, 1, 6).double(), torch.zeros(2, 1, 6).double()]
    for term in wholes[1].biases:
        (cells,) = term.maps[0].grid.axes
        (step,) = cells[:, 0].long()
        for total, part in zip(found, (term.maps[0].positive, term.maps[0].negative), strict=True):
            total[:, :, step] += part[:, :, 0]
    torch.testing.assert_close(one.positive, found[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(one.negative, found[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", [{}, {"bidirectional": True, "num_layers": 2}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_the_last_state_is_the_last_output(name, form):
    layer = LAYERS[name][0](3, 4, batch_first=True, **LAYERS[name][2], **form).double()
    head = nn.Linear(4, 1).double()

    def from_outputs(x):
        return head(layer(x)[0][:, -1, :4]).tanh().sum(1)

    def from_states(x):
        state = layer(x)[1]
        state = state[0] if isinstance(state, tuple) else state
        return head(state[-2 if layer.bidirectional else -1]).tanh().sum(1)

    assert_same_maps(from_outputs, from_states, randn(2, 6, 3, seed=3), atol=1e-12, channel_dim=2)


@pytest.mark.parametrize(
    "form", [{"num_layers": 2, "dropout": 0.5}, {"num_layers": 2, "proj_size": 2}], ids=str
)
def test_other_forms_are_exact_too(form):
    layer = nn.LSTM(3, 4, batch_first=True, **form).double().eval()
    x = randn(2, 5, 3, seed=5)
    whole = TGradAttribution(lambda x: layer(x)[0].sum((1, 2))).decompose(x, channel_dim=2)
    assert_complete(whole, atol=1e-12)
    assert bool((whole.placed > 0.9).all())


PACKED = [
    ("lstm", {}, True),
    ("lstm", {"num_layers": 2, "bidirectional": True, "batch_first": True}, False),
    ("lstm", {"proj_size": 2, "batch_first": True}, False),
    ("gru", {"bidirectional": True}, False),
    ("rnn_relu", {"num_layers": 2, "batch_first": True, "bias": False}, True),
]


@pytest.mark.parametrize(("name", "form", "in_order"), PACKED, ids=str)
def test_a_packed_batch_is_explained_as_each_of_its_sequences(name, form, in_order):
    kind, _, options = LAYERS[name]
    layer = kind(3, 4, **options, **form).double()
    x, lengths = randn(4, 6, 3, seed=1), [6, 4, 4, 1] if in_order else [4, 1, 6, 4]
    over_y = randn(6, layer(x)[0].shape[2], seed=2)

    def score(y, ends):
        ends = ends if isinstance(ends, tuple) else (ends,)
        return (y * over_y[: y.shape[1]]).sum((1, 2)) + sum((end**2).sum((0, 2)) for end in ends)

    def packed(x):
        given = x if layer.batch_first else x.transpose(0, 1)
        sequences = nn.utils.rnn.pack_padded_sequence(
            given, lengths[: len(x)], layer.batch_first, enforce_sorted=in_order
        )
        y, ends = layer(sequences)
        y, _ = nn.utils.rnn.pad_packed_sequence(y, layer.batch_first, total_length=6)
        return score(y if layer.batch_first else y.transpose(0, 1), ends)

    def alone(x):
        y, ends = layer(x if layer.batch_first else x.transpose(0, 1))
        return score(y if layer.batch_first else y.transpose(0, 1), ends)

    whole = TGradAttribution(packed).decompose(x, channel_dim=2)
    torch.testing.assert_close(whole.delta, torch.zeros(4).double(), rtol=0, atol=1e-11)
    for sample, length in enumerate(lengths):
        expected = TGradAttribution(alone).decompose(x[sample : sample + 1, :length], channel_dim=2)
        here = whole.sample(sample)
        for part in ("positive", "negative"):
            own = [getattr(term, part) for term in here.biases if term.name.startswith(name[:3])]
            total = sum(own)[..., :length]
            other = sum(
                getattr(term, part) for term in expected.biases if term.name.startswith(name[:3])
            )
            torch.testing.assert_close(total, other, rtol=1e-10, atol=1e-12)
        assert not sum(term.positive[..., length:].sum() for term in here)


def test_padding_with_a_number_is_a_term():
    layer = nn.GRU(3, 4, batch_first=True).double()

    def network(x):
        sequences = nn.utils.rnn.pack_padded_sequence(x, [5, 2], batch_first=True)
        padded, _ = nn.utils.rnn.pad_packed_sequence(layer(sequences)[0], True, padding_value=-2.0)
        return padded.sum((1, 2))

    whole = TGradAttribution(network).decompose(randn(2, 5, 3, seed=1), channel_dim=2)
    padding = torch.tensor([0.0, -2.0 * 3 * 4]).double()
    torch.testing.assert_close(whole["pad_packed_sequence"].score, padding)
    assert_complete(whole, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_between_layers_drops_the_same_units_again(name):
    kind, _, options = LAYERS[name]
    layer = kind(3, 4, 2, dropout=0.5, batch_first=True, **options).double().train()
    x = randn(3, 5, 3, seed=8)
    torch.manual_seed(5)
    layer(x)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    with pytest.warns(UserWarning, match="forward_func draws random numbers"):
        whole = TGradAttribution(lambda x: layer(x)[0].sum((1, 2))).decompose(x, channel_dim=2)
    assert torch.equal(torch.get_rng_state(), after)
    assert all(term.name != "hidden" for term in whole)
    assert_complete(whole, atol=1e-12)
    assert bool((whole.placed > 0.99).all())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_autocast_is_no_false_alarm(kind):
    layer = kind(4, 5, 2, batch_first=True)

    def network(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x)[0].float().sum((1, 2))

    try:
        network(torch.randn(3, 6, 4))
    except RuntimeError as error:
        pytest.skip(f"torch cannot run the layer in bfloat16 on this processor: {error}")

    whole = TGradAttribution(network).decompose(torch.randn(3, 6, 4), channel_dim=2)
    # The gates are computed in bfloat16, so that a residual remains, but a small one.
    assert 0 < float(whole.delta.abs().max()) < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_layer_is_freed_with_its_graph(kind, dtype):
    layer = kind(3, 4, batch_first=True).to(dtype)
    explainer = TGradAttribution(lambda x: layer(x)[0].sum((1, 2)))
    steps = torch.randn(2, 5, 3, dtype=dtype)
    assert tensors_left_by(partial(explainer.attribute, steps, channel_dim=2)) == []


ALIKE = {
    "twice": lambda cell, x: cell(x[:, 0], x[:, 0]),
    "computed from the state": lambda cell, x: cell(x[:, 0].sin(), x[:, 0]),
}


@pytest.mark.parametrize("how", ALIKE)
def test_a_gradient_of_a_cell_whose_arguments_depend_on_each_other(how):
    cell, x = nn.GRUCell(3, 3).double(), randn(2, 2, 3, seed=1)

    def network(x):
        z = x * 1.0
        (gradient,) = torch.autograd.grad(ALIKE[how](cell, z).sum(), z, create_graph=True)
        return gradient.sin().flatten(1).sum(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # places of a hidden operation
        whole = TGradAttribution(network).decompose(x, channel_dim=2)
    assert_input_term_is_gradient_times_input(whole, network, x)


def test_a_cell_and_a_layer_with_keywords():
    cell, layer = nn.GRUCell(3, 4).double(), nn.GRU(3, 4).double()
    weights = [cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh]
    names = ("w_ih", "w_hh", "b_ih", "b_hh")

    def by_cell(x):
        given = dict(zip(names, weights, strict=True))
        return torch.gru_cell(input=x[:, 0], hx=x.new_zeros(2, 4), **given).sum(1)

    def by_layer(x):
        return torch.gru(
            x.transpose(0, 1), x.new_zeros(1, 2, 4), params=layer._flat_weights, has_biases=True,
            num_layers=1, dropout=0.0, train=False, bidirectional=False, batch_first=False,
        )[0].sum((0, 2))  # fmt: skip

    for network in (by_cell, by_layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # places, which need arguments in order
            whole = TGradAttribution(network).decompose(randn(2, 3, 3, seed=1), channel_dim=2)
        assert_complete(whole, atol=1e-12)


def test_biases_that_an_lstm_does_not_use():
    layer, x = nn.LSTM(3, 4), torch.randn(2, 5, 3)
    first = torch.zeros(1, 2, 4)

    def network(x):
        has_biases = False
        options = has_biases, 1, 0.0, False, False, True
        return torch.lstm(x, (first, first), layer._flat_weights, *options)[0].sum((1, 2))

    try:
        network(x.clone().requires_grad_())
    except RuntimeError as error:
        pytest.skip(f"torch refuses them: {error}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # places of a layer that runs as a whole
        whole = TGradAttribution(network).decompose(x, channel_dim=2)
    assert_input_term_is_gradient_times_input(whole, network, x)


class _Steps(nn.Module):
    """A recurrent model of (N, T, E), with the layer of a kind."""

    def __init__(self, kind, first=False, packed=False):
        super().__init__()
        self.layer, self.first, self.packed = kind, first, packed

    def forward(self, x):
        if isinstance(self.layer, nn.RNNCellBase):
            state = None
            for step in x.unbind(1):
                state = self.layer(step, state)
            return (state[0] if isinstance(state, tuple) else state).sum(1)
        if self.packed:
            lengths = torch.full((len(x),), x.shape[1])
            x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        elif self.first:
            x = x.transpose(0, 1)
        return self.layer(x)[1].sum((0, 2))


@pytest.mark.parametrize(
    "model",
    [
        _Steps(nn.GRU(4, 3, batch_first=True)),
        _Steps(nn.RNN(4, 3), first=True),
        _Steps(nn.GRU(4, 3, batch_first=True), packed=True),
        _Steps(nn.LSTMCell(4, 3)),
    ],
    ids=["layer", "steps first", "packed", "cell"],
)
def test_steps_that_count_as_channels_are_warned_of(model):
    x, method = torch.rand(2, 5, 4), TGradAttribution(model)
    with pytest.warns(UserWarning, match=r"all 5 positions\..*pass channel_dim=2"):
        method.attribute(x)
    method.attribute(x, channel_dim=-1)
    TGradAttribution(lambda x: model(x.transpose(1, 2))).attribute(x.transpose(1, 2))


@pytest.mark.parametrize("steps", range(1, 5))
def test_a_state_of_a_recurrence_written_as_a_loop_is_at_all_steps_up_to_it(steps):
    """As in a gated network that is not a layer of torch."""
    sequence, *weights = (torch.rand(size).double() for size in ((1, 6, 3), (3, 4), (4, 4)))

    def network(x):
        state = x.new_zeros(len(x), 4)
        for step in range(steps):
            new = x[:, step] @ weights[0] + state @ weights[1]
            gate = new.sigmoid()
            state = gate * state + (1 - gate) * new.relu()
        return (state + 1).sum(1)

    term = TGradAttribution(network).decompose(sequence, channel_dim=-1).terms[-1]
    (cells,) = term.maps[0].grid.axes
    assert cells.tolist() == [[(steps - 1) / 2, steps]]  # the middle and the width


def test_both_directions_of_a_loop_in_one_tensor_are_at_their_own_steps():
    first, inner = randn(3, 4, seed=1), randn(4, 4, seed=2)

    def last_state(x):
        state = x.new_zeros(len(x), 4)
        for step in range(3):
            new = x[:, step] @ first + state @ inner
            gate = new.sigmoid()
            state = gate * state + (1 - gate) * new.tanh()
        return state

    def both(x):
        return last_state(torch.cat([x, x.flip(1)]))[: len(x)].sum(1)

    plain, paper = lambda x: last_state(x).sum(1), ["paper"]
    assert_same_maps(both, plain, randn(2, 12, 3), aggregations=paper, channel_dim=-1)
