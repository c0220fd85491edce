"""What real forward functions do besides convolving: each must be exact, batch or single."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution

X = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().double().eval()


LSTM = _seeded(lambda: nn.LSTM(5, 3, num_layers=2, batch_first=True, bidirectional=True))
GRU = _seeded(lambda: nn.GRU(5, 3))
ATTENTION = _seeded(lambda: nn.MultiheadAttention(6, 2, batch_first=True))
CELL = _seeded(lambda: nn.LSTMCell(30, 7))
INSTANCE = _seeded(lambda: nn.InstanceNorm1d(6, affine=True))
LEARNED = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = torch.ones(6, 6).triu(1).bool()


def _per_sample(y):
    return y.flatten(1).square().sum(1) + y.flatten(1).sum(1)


def _causal_attention(x):
    logits = (x @ x.transpose(1, 2)).masked_fill(MASK, -torch.inf)
    return logits.softmax(-1) @ x


def _added_mask(x):
    mask = torch.zeros(6, 6).double().masked_fill(MASK, -torch.inf)
    return torch.log_softmax(x @ x.transpose(1, 2) + mask, -1)[:, -1]


def _canvas(x):
    canvas = torch.ones(4, 8, 5, dtype=torch.float64)
    canvas[:, 1:7].copy_(x)
    canvas[:, 0] += x[:, 0]
    return canvas


def _clamped_and_overwritten(x):
    y = F.relu6(x * 9, inplace=True)
    y += x
    return y


def _scaled_in_place_after_a_clamp(x):
    return F.hardtanh_(x * 2).div_(6) + x


def _fourier(x):
    # A global filter with an offset, on a real signal.
    spectrum = torch.fft.rfft(x, dim=2) * SPECTRUM + SPECTRUM[0]
    return torch.fft.irfft(spectrum, n=5, dim=2) + 1


def _masked_gate(x):
    return torch.sigmoid((x @ x.transpose(1, 2)).masked_fill(MASK, -torch.inf)) @ x


def _started_by_the_input(x):
    return GRU(LEARNED.expand(4, -1, -1).transpose(0, 1), x[None, :, 0, :3].contiguous())[0]


def _cell(x):
    hidden, cell = CELL(x.flatten(1))
    hidden, cell = CELL(x.flatten(1), (hidden, cell))
    return torch.cat([hidden, cell], 1)


SPECTRUM = torch.complex(LEARNED[0], LEARNED[0].flip(0))[:, :3].repeat(2, 1)

FORWARDS = {
    "nothing to sum": lambda x: x.sum((1, 2))[:, None] ** 2,
    "product": lambda x: torch.prod(1 + x / 9, 1),
    "causal attention": _causal_attention,
    "added mask": _added_mask,
    "padded with -inf": lambda x: F.max_pool1d(F.pad(x, (1, 1), value=-torch.inf), 3),
    "maximum with a constant": lambda x: torch.max(x, torch.full((5,), 0.2).double()),
    "maximum of two": lambda x: torch.max(x, x.flip(1)),
    "lstm states": lambda x: LSTM(x)[1][0].transpose(0, 1),
    "lstm sequence": lambda x: LSTM(x)[0],
    "gru states": lambda x: GRU(x.transpose(0, 1))[1].transpose(0, 1),
    "lstm cell": _cell,
    "learned queries": lambda x: F.scaled_dot_product_attention(LEARNED.expand(4, -1, -1), x, x),
    "multi-head": lambda x: ATTENTION(*[x.transpose(1, 2)] * 3, need_weights=False)[0],
    "learned multi-head": lambda x: ATTENTION(
        LEARNED.transpose(1, 2)[:, :3].repeat(4, 1, 2), *[x.transpose(1, 2)] * 2
    )[0],
    "canvas": _canvas,
    "python constants": lambda x: (x + 0.1) * (0.3 - x),
    "keywords": lambda x: torch.softmax(input=torch.add(input=x, other=1.0), dim=1),
    "rounded down": lambda x: x + torch.div(x, 0.3, rounding_mode="floor"),
    "instance norm": INSTANCE,
    "clamped and overwritten": _clamped_and_overwritten,
    "scaled in place after a clamp": _scaled_in_place_after_a_clamp,
    "fourier": _fourier,
    "masked gate": _masked_gate,
    "both ends masked": lambda x: torch.tanh(x.masked_fill(MASK[:, :5], torch.inf)),
    "started by the input": lambda x: _started_by_the_input(x).transpose(0, 1),
    "the best three": lambda x: x.topk(3, dim=2).values + 1,
    "along another": lambda x: torch.take_along_dim(x, x.argsort(1), 1) + 1,
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.5, training=True),
    "attention dropout": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.3),
}


STEPS_AS_CHANNELS = "forward_func uses dimension 1 of inputs as positions"
RANDOM = "forward_func draws random numbers"
EXPECTED_WARNINGS = {
    "alpha dropout": RANDOM,
    "attention dropout": RANDOM,
    "fourier": "An operation loses the positions",
    "lstm states": STEPS_AS_CHANNELS,
    "lstm sequence": STEPS_AS_CHANNELS,
    "gru states": STEPS_AS_CHANNELS,
}


@pytest.mark.parametrize("name", FORWARDS)
def test_exact(name):
    forward = FORWARDS[name]
    with warnings.catch_warnings():
        if name in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", EXPECTED_WARNINGS[name])
        whole = TGradAttribution(lambda x: _per_sample(forward(x))).decompose(X)
    scores = torch.stack([term.score for term in whole.terms])
    assert bool((whole.delta.abs() <= 1e-10 * scores.abs().sum(0)).all())
    for term in whole.terms:
        assert bool(term.positive.isfinite().all())
        torch.testing.assert_close(
            term.positive.flatten(1).sum(1) - term.negative.flatten(1).sum(1), term.score
        )


def test_a_single_number_on_the_way_of_a_single_sample():
    # f = 2 (sum x + 3): 6 come from the constant, which no dimension holds.
    whole = TGradAttribution(lambda x: ((x.sum() + 3.0) * 2.0).reshape(1)).decompose(X[:1])
    assert [(term.name, term.score.tolist()) for term in whole.biases] == [("add", [6.0])]
    assert whole.biases[0].positive.tolist() == [[6.0]]


@pytest.mark.parametrize("name", ["alpha dropout", "attention dropout"])
def test_a_random_operation_draws_once(name):
    torch.manual_seed(7)
    plain = _per_sample(FORWARDS[name](X))
    after = torch.get_rng_state()
    torch.manual_seed(7)
    with pytest.warns(UserWarning, match=RANDOM):
        whole = TGradAttribution(lambda x: _per_sample(FORWARDS[name](x))).decompose(X)
    torch.testing.assert_close(whole.output, plain)
    assert torch.equal(torch.get_rng_state(), after)


def _draws_in_vain(x):
    torch.rand([])  # as for the layer drop of Wav2Vec2, also in evaluation mode
    return F.scaled_dot_product_attention(x, x, x)


def _adds_noise_in_place(x):
    return x.add_(torch.empty(x.shape, dtype=x.dtype).uniform_())


@pytest.mark.parametrize(
    ("forward", "expected"),
    [
        (lambda x: F.dropout(x, 0.5), True),
        (lambda x: x * torch.rand(x.shape, dtype=x.dtype), True),
        (_adds_noise_in_place, True),
        (lambda x: x[:, torch.rand(6).argsort()] * torch.arange(6.0)[:, None], True),
        (nn.Dropout(0.5), True),
        (nn.Dropout1d(0.5), True),
        (nn.MultiheadAttention(5, 1, dropout=0.5, batch_first=True).double(), True),
        (nn.Dropout(0.5).eval(), False),
        (nn.Dropout(0.0), False),
        (nn.MultiheadAttention(5, 1, dropout=0.5, batch_first=True).double().eval(), False),
        (nn.LSTM(5, 2, 2, batch_first=True, dropout=0.5).double().eval(), False),
        (_draws_in_vain, False),
    ],
)
def test_a_map_that_differs_from_call_to_call_is_warned_of(forward, expected):
    def network(x):
        found = forward(x, x, x) if isinstance(forward, nn.MultiheadAttention) else forward(x)
        return (found[0] if isinstance(found, tuple) else found).flatten(1).sum(1)

    before = X.clone()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        TGradAttribution(network).attribute(X, channel_dim=2)
    assert torch.equal(X, before)
    assert any(RANDOM in str(each.message) for each in caught) == expected


def test_a_recorded_run_that_is_rounded_in_another_way_is_no_random_one():
    norm = nn.BatchNorm2d(3)  # with large inputs, it runs as a part of the convolution
    for values in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        values.uniform_(0.5, 1.5)
    layers = nn.Sequential(nn.Conv2d(3, 3, 3), norm).eval()

    def network(x):
        torch.rand([])
        return layers(layers(x)).amax((2, 3))

    x = torch.rand(1, 3, 300, 300)
    found = TGradAttribution(network).decompose(x, target=0)
    assert not torch.equal(found.output, network(x)[:, 0])


@pytest.mark.parametrize("constant", [False, True])
def test_running_statistics_are_not_updated(constant):
    norm = nn.InstanceNorm1d(6, track_running_stats=True).double().train()
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    TGradAttribution(lambda x: _per_sample(norm(X if constant else x) + x)).decompose(X)
    for name, value in norm.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_a_model_keeps_of_one_call_is_a_constant_of_the_next():
    class Remembers(nn.Module):
        previous = None

        def forward(self, x):
            y = x * 2
            y, self.previous = (y if self.previous is None else y + self.previous), y
            return _per_sample(y)

    method = TGradAttribution(Remembers())
    first = method.decompose(X)
    assert [term.name for term in first.biases] == ["square"]
    second = method.decompose(X)
    assert [term.name for term in second.biases] == ["add", "square"]
    scores = torch.stack([term.score for term in second.terms])
    assert bool((second.delta.abs() <= 1e-10 * scores.abs().sum(0)).all())


def test_lazy_modules_make_their_parameters_in_the_first_call():
    def network():
        torch.manual_seed(0)
        layers = [nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.LazyLinear(5)).eval()

    x, made, first = torch.randn(2, 3, 8, 8), network(), network()
    torch.manual_seed(1)
    made(x)
    torch.manual_seed(1)
    found = TGradAttribution(first).attribute(x, target=1)
    torch.testing.assert_close(found, TGradAttribution(made).attribute(x, target=1))
    assert all(parameter.requires_grad for parameter in first.parameters())


def test_an_input_that_is_not_used_is_named():
    method = TGradAttribution(lambda a, b: _per_sample(a))
    with pytest.raises(ValueError, match=r"does not depend on inputs\[1\]"):
        method.attribute((X, X.clone()))
    weight = torch.ones(1, requires_grad=True)
    method = TGradAttribution(lambda a: weight * _per_sample(torch.from_numpy(a.detach().numpy())))
    with pytest.raises(ValueError, match=r"does not depend on inputs, .* \.data or NumPy"):
        method.attribute(X)


def test_a_residual_that_is_nan_is_warned_of():
    with pytest.warns(UserWarning, match="NaN"):
        TGradAttribution(lambda x: (x.sum((1, 2)) - x.sum((1, 2))).sqrt()).decompose(X)


@pytest.mark.parametrize(
    "forward",
    [lambda x: x.sum((1, 2)) / 0, lambda x: ((x.abs() + 1).half() * 6e4 + 6e4).float().sum((1, 2))],
    ids=["division by zero", "overflow"],
)
def test_an_output_that_is_not_finite_is_called_so(forward):
    with pytest.warns(UserWarning, match="The output is not finite"):
        TGradAttribution(forward).decompose(X)


def test_a_single_sample_without_a_batch_dimension_is_refused():
    network = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    with pytest.raises(ValueError, match=r"inputs.unsqueeze\(0\)"):
        TGradAttribution(network).attribute(torch.rand(5))


def test_an_output_written_into_a_view_reaches_both_inputs():
    def forward(a, b):
        y = a * 1
        y[:, 0].add_(b[:, 0])
        return _per_sample(y)

    whole = TGradAttribution(forward).decompose((X, X.flip(0).clone()))
    assert [term.inputs for term in whole.biases] == [(0, 1)]
