"""In place is what it is out of place: every follower after every producer."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_same_maps, randn

GENERATOR = torch.Generator().manual_seed(0)
TOKENS, FEATURES = 6, 4
IMAGE = torch.randn(2, FEATURES, TOKENS, generator=GENERATOR, dtype=torch.float64)


def _module(build):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return build().double().eval()


LINEAR = _module(lambda: nn.Linear(FEATURES, FEATURES))
CONV = _module(lambda: nn.Conv1d(FEATURES, FEATURES, 3, padding=1))
NORM = _module(lambda: nn.InstanceNorm1d(FEATURES, affine=True))
ATTENTION = _module(lambda: nn.MultiheadAttention(FEATURES, 2, batch_first=True))
LSTM = _module(lambda: nn.LSTM(FEATURES, FEATURES, batch_first=True))
GRU = _module(lambda: nn.GRU(FEATURES, FEATURES, batch_first=True))
CELL = _module(lambda: nn.LSTMCell(FEATURES, FEATURES))
AFTER = _module(lambda: nn.LayerNorm(FEATURES))


def _tokens(x):
    return x.transpose(1, 2)


PRODUCERS = {
    "conv": lambda x: _tokens(CONV(x)).contiguous(),
    "conv, transposed": lambda x: _tokens(CONV(x)),
    "linear": lambda x: LINEAR(_tokens(x)),
    "linear, contiguous": lambda x: LINEAR(_tokens(x).contiguous()),
    "einsum": lambda x: torch.einsum("ncl,cd->nld", x, LINEAR.weight.detach()),
    "tensordot": lambda x: torch.tensordot(_tokens(x), LINEAR.weight.detach(), dims=1),
    "matmul": lambda x: _tokens(x) @ LINEAR.weight.detach(),
    "attention": lambda x: ATTENTION(*[_tokens(x)] * 3, need_weights=False)[0],
    "lstm": lambda x: LSTM(_tokens(x))[0],
    "gru": lambda x: GRU(_tokens(x))[0],
    "cell": lambda x: torch.stack([CELL(step)[0] for step in x.unbind(2)], 1),
    "instance norm": lambda x: _tokens(NORM(x)),
    "pool": lambda x: _tokens(F.avg_pool1d(x, 3, 1, 1)[:, :, :]),
    "chunk": lambda x: torch.cat([x, x + 1], 1).transpose(1, 2).narrow(2, FEATURES, FEATURES),
    "reshape": lambda x: (x * 2).reshape(len(x), TOKENS, FEATURES),
}


def _assigned(y):
    y[:, 1:3] = 0.5
    return y


def _moved_within(y):
    y[:, :2] = y[:, 2:4].clone()
    return y


def _moved_through_a_view(y):
    y[:, :2].copy_(y[:, 2:4].clone())
    return y


def _transposed(y):
    y.transpose_(1, 2).transpose_(0, 1)
    return y.permute(1, 2, 0) * 2


def _part(y):
    y[:, :, 1].add_(2.0)
    return y


def _scaled(y):
    y *= 2
    y -= 0.5
    return y


FOLLOWERS = {
    "relu": (lambda y: F.relu(y, inplace=True), F.relu),
    "leaky": (lambda y: F.leaky_relu(y, 0.1, inplace=True), lambda y: F.leaky_relu(y, 0.1)),
    "relu6": (lambda y: F.relu6(y, inplace=True), F.relu6),
    "hardtanh": (lambda y: F.hardtanh(y, -0.3, 0.4, inplace=True),
                 lambda y: F.hardtanh(y, -0.3, 0.4)),
    "silu": (lambda y: F.silu(y, inplace=True), F.silu),
    "hardswish": (lambda y: F.hardswish(y, inplace=True), F.hardswish),
    "elu": (lambda y: F.elu(y, inplace=True), F.elu),
    "mish": (lambda y: F.mish(y, inplace=True), F.mish),
    "hardsigmoid": (lambda y: F.hardsigmoid(y, inplace=True), F.hardsigmoid),
    "sigmoid_": (lambda y: y.sigmoid_(), torch.sigmoid),
    "tanh_": (lambda y: y.tanh_(), torch.tanh),
    "clamp_": (lambda y: y.clamp_(-0.2, 0.2), lambda y: y.clamp(-0.2, 0.2)),
    "dropout": (lambda y: F.dropout(y, 0.1, False, inplace=True), lambda y: y * 1),
    "scaled": (_scaled, lambda y: y * 2 - 0.5),
    "add_": (lambda y: y.add_(LINEAR.bias), lambda y: y + LINEAR.bias),
    "div_": (lambda y: y.div_(0.02, rounding_mode="trunc").add_(y), lambda y: 2 * torch.div(
        y, 0.02, rounding_mode="trunc")),
    "pow_": (lambda y: y.pow_(2), lambda y: y**2),
    "mul_": (lambda y: y.mul_(y[:, :1].clone()), lambda y: y * y[:, :1]),
    "masked_fill_": (lambda y: y.masked_fill_(torch.eye(TOKENS, FEATURES) > 0, 0.3),
                     lambda y: y.masked_fill(torch.eye(TOKENS, FEATURES) > 0, 0.3)),
    "part": (_part, lambda y: y + torch.tensor([0.0, 2.0, 0.0, 0.0], dtype=y.dtype)),
    "assigned": (_assigned, lambda y: torch.cat(
        [y[:, :1], torch.full_like(y[:, 1:3], 0.5), y[:, 3:]], 1)),
    "moved within": (_moved_within, lambda y: torch.cat([y[:, 2:4], y[:, 2:]], 1)),
    "moved through a view": (_moved_through_a_view,
                             lambda y: torch.cat([y[:, 2:4], y[:, 2:]], 1)),
    "transposed": (_transposed, lambda y: y * 2),
}  # fmt: skip


def _network(produce, follow):
    def forward(x):
        y = AFTER(follow(produce(x)))
        weights = torch.linspace(0, 2, TOKENS * FEATURES, dtype=y.dtype) ** 2
        return (y.flatten(1) * weights).sum(1)

    return forward


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("follower", FOLLOWERS)
@pytest.mark.parametrize("producer", PRODUCERS)
def test_in_place_has_the_maps_of_out_of_place(producer, follower, samples):
    forms = (_network(PRODUCERS[producer], follow) for follow in FOLLOWERS[follower])
    assert_same_maps(*forms, IMAGE[:samples], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "autocast"])
@pytest.mark.parametrize("follower", ["relu", "silu", "hardswish", "elu", "dropout", "scaled"])
@pytest.mark.parametrize("producer", ["conv", "linear", "einsum", "attention"])
def test_in_lower_precision(producer, follower, kind):
    modules = {name: copy.deepcopy(value) for name, value in globals().items() if name.isupper()
               and isinstance(value, nn.Module)}  # fmt: skip
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    wholes = []
    for follow in FOLLOWERS[follower]:
        for module in modules.values():
            module.to(dtype)
        with pytest.MonkeyPatch.context() as patch:
            for name, module in modules.items():
                patch.setitem(globals(), name, module)
            network = _network(PRODUCERS[producer], follow)
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
                wholes.append(TGradAttribution(network).decompose(IMAGE.to(dtype)))
    one, other = wholes
    scale = float(sum(term.score.abs() for term in other.terms).max())
    limit = {"rtol": 0, "atol": (1e-4 if kind == "float32" else 0.02) * scale}
    torch.testing.assert_close(one.output, other.output, **limit)
    torch.testing.assert_close(one.delta, other.delta, **limit)
    evidence = [sum(term.positive.sum() for term in whole.terms) for whole in wholes]
    torch.testing.assert_close(*evidence, rtol=0.05, atol=0)


OVERWRITE = {
    "foreach": lambda constant: torch._foreach_mul_([constant], 2),
    "operator": lambda constant: torch.ops.aten.mul_.Scalar(constant, 2),
    "init": lambda constant: nn.init.constant_(tensor=constant, val=3),
    "out": lambda constant: torch.add(constant, 1, out=constant),
    "method": lambda constant: constant.zero_(),
}
ADD = {
    "add": lambda x, constant: x + constant,
    "linear": lambda x, constant: F.linear(x, torch.ones(4, 4).double(), constant),
    "addmm": lambda x, constant: torch.addmm(constant, x, torch.ones(4, 4).double()),
    "convolution": lambda x, constant: F.conv1d(
        x[..., None], torch.ones(4, 4, 1).double(), constant
    )[..., 0],
}
CONSTANTS = {
    "constant": lambda: torch.ones(4).double(),
    "of a parameter": lambda: nn.Parameter(torch.ones(4).double()) * 1.0,
    "of whole numbers": lambda: torch.ones(4, dtype=torch.long),
}


CASES = [
    *itertools.product(["constant", "of a parameter"], ADD, OVERWRITE),
    *(("of whole numbers", "add", how) for how in OVERWRITE),
]


@pytest.mark.parametrize(("kind", "add", "how"), CASES)
def test_a_constant_that_was_added_may_be_overwritten(kind, add, how):
    weights = randn(4)

    def network(x):
        constant = CONSTANTS[kind]()
        y = ADD[add](x * 2, constant)
        with torch.no_grad():
            OVERWRITE[how](constant)
        return (y * weights).sum(1)

    whole = TGradAttribution(network).decompose(randn(2, 4, seed=1))
    (term,) = whole.biases
    torch.testing.assert_close(term.score, weights.sum().expand(2))
    assert_complete(whole, atol=1e-12)


def test_an_operator_that_overwrites_what_depends_on_the_input():
    def network(x):
        z = x + 1
        torch.ops.aten.mul_.Scalar(z, 2.0)
        return z.sum(1)

    assert_same_maps(network, lambda x: ((x + 1) * 2).sum(1), randn(2, 3))


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "view", [lambda z: z.flatten(0, 1), lambda z: z.mT], ids=["flat", "turned"]
)
def test_a_view_of_zeros_shows_what_is_written_into_them_later(view, n):
    first, last = nn.Linear(4, 4).double(), nn.Linear(4, 3).double()

    def plain(x):
        return last(F.silu(view(first(x).relu())).view(n, 4, 4)).sum(1)

    def written(x):
        values = torch.zeros(n, 4, 4).double()
        seen = view(values)
        values[:] = first(x).relu()
        return last(F.silu(seen).view(n, 4, 4)).sum(1)

    assert_same_maps(written, plain, torch.rand(n, 4, 4).double(), 1, channel_dim=-1)
