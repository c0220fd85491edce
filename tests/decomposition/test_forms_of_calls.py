"""One operation called in another form, and memory that is written to through another tensor."""

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from captum_tgrad.decomposition.call import Call
from captum_tgrad.decomposition.maps import summing
from captum_tgrad.decomposition.operations import attention
from captum_tgrad.decomposition.operations.operation_table import operation_of
from tests.decomposition.checks import assert_complete, assert_same_maps
from tests.decomposition.test_hidden import square

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 6, 6, generator=GENERATOR, dtype=torch.float64)
C = torch.rand(4, 3, generator=GENERATOR, dtype=torch.float64) + 0.5
WEIGHTS = torch.linspace(0, 6, 324, dtype=torch.float64)


def _sum(x):
    return (torch.sigmoid(x.flatten(1)) * WEIGHTS[: x[0].numel()]).sum(1)


def _with(change, use):
    def forward(x):
        base = x * 2
        return _sum(use(*change(base)))

    return forward


def _transposed_view(base):
    view = base[:]
    view.transpose_(2, 3)
    return base, view


def _overwritten_behind(base):
    view = base.view(len(base), 18, 6)
    base.copy_(base.flip(2))
    return (view.view_as(base),)


def _overwritten_beside(base):
    view, other = base[:, :, 1:], base[:, :, :3]
    other.copy_(base.flip(2)[:, :, :3])
    return (view,)


KERNEL = torch.linspace(-1, 1, 54, dtype=torch.float64).view(2, 3, 3, 3)

PAIRS = {
    "a convolution with NumPy integers": (
        lambda x: _sum(F.conv2d(x, KERNEL, C[0, :2], 2, 1)),
        lambda x: _sum(F.conv2d(x, KERNEL, C[0, :2], np.int64(2), padding=np.int32(1))),
    ),
    "a mean along a NumPy integer": (
        lambda x: _sum(torch.sigmoid(x).mean(2)),
        lambda x: _sum(torch.sigmoid(x).mean(np.int64(2))),
    ),
    "torch.batch_norm by position": (
        lambda x: _sum(F.batch_norm(x, C[0], C[1], C[2], C[3])),
        lambda x: _sum(torch.batch_norm(x, C[2], C[3], C[0], C[1], False, 0.1, 1e-5, False)),
    ),
    "torch.batch_norm by keyword": (
        lambda x: _sum(F.batch_norm(x, C[0], C[1], C[2], C[3])),
        lambda x: _sum(
            torch.batch_norm(
                x, C[2], C[3], running_mean=C[0], running_var=C[1], training=False,
                momentum=0.1, eps=1e-5, cudnn_enabled=False,
            )
        ),
    ),
    "relu_ by keyword": (
        lambda x: _sum(torch.relu(x * 2)),
        lambda x: _sum(torch.relu_(input=x * 2)),
    ),
    "an order by its name": (
        lambda x: _sum(x) + torch.linalg.vector_norm(x.flatten(1), 3, dim=1),
        lambda x: _sum(x) + torch.linalg.vector_norm(x.flatten(1), ord=3, dim=1),
    ),
    "a whole number": (
        lambda x: _sum(torch.maximum(x, torch.ones(6, dtype=torch.float64))),
        lambda x: _sum(torch.maximum(x, torch.ones(6, dtype=torch.long))),
    ),
    "a view transposed in place": (
        _with(lambda base: (base,), lambda base: torch.cat([base, base.transpose(2, 3)], 1)[:, 3:]),
        _with(_transposed_view, lambda base, view: torch.cat([base, view], 1)[:, 3:]),
    ),
    "a view unsqueezed in place": (
        lambda x: _sum(x[:, 0] * 2),
        lambda x: _sum(x[:, 0].unsqueeze_(1) * 2),
    ),
    "the tensor behind a view overwritten": (
        lambda x: _sum((x * 2).flip(2)),
        _with(_overwritten_behind, lambda view: view),
    ),
    "a view beside it overwritten": (
        lambda x: _sum(torch.cat([(x * 2).flip(2)[:, :, 1:3], (x * 2)[:, :, 3:]], 2)),
        _with(_overwritten_beside, lambda view: view),
    ),
    "matmul as a linear layer": (
        lambda x: _sum(x[:, 0] @ x[:, 0].mT),
        lambda x: _sum(torch.stack([F.linear(each, each) for each in x[:, 0]])),
    ),
    "less a multiple of a constant": (
        lambda x: _sum(x - C[0, 0] * 2) + _sum(x - C[0, 1] * 2),
        lambda x: _sum(torch.subtract(x, C[0, 0], alpha=2)) + _sum(torch.rsub(C[0, 1], x, alpha=2)),
    ),
    "a chain of matrices by its name": (
        lambda x: _sum(x[:, 0] @ x[:, 1] @ x[:, 2]),
        lambda x: _sum(torch.stack([torch.linalg.multi_dot(tensors=list(each)) for each in x])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_another_form_has_the_same_map(name):
    plain, other = PAIRS[name]
    assert_same_maps(other, plain, X)


def _each(join):
    return lambda x, c: torch.stack([join(*each) for each in zip(x[:, 0], c[:, 0], strict=True)])


def _assigned(x, c):
    x = x * 1
    x[:, 0] = c[0, 0]
    return x


def _filled(x, c):
    return (x * 1).index_fill_(1, torch.tensor([0]), c[0, 0, 0, 5])


def _copied(x, c):
    x = x * 1
    x[:, 0].copy_(c[0, 0])
    return x


CONSTANTS = {
    "cat": lambda x, c: torch.cat([x, c], 1),
    "stack": lambda x, c: torch.stack([x[:, 0], c[:, 0]], 1),
    "hstack": lambda x, c: torch.hstack([x, c]),
    "column_stack": _each(lambda x, c: torch.column_stack([x, c])),
    "row_stack": _each(lambda x, c: torch.row_stack([x, c])),
    "block_diag": _each(torch.block_diag),
    "select_scatter": lambda x, c: torch.select_scatter(x, c[:, 0], 1, 0),
    "slice_scatter": lambda x, c: torch.slice_scatter(x, c, 1, 0, 1),
    "setitem": _assigned,
    "index_fill": _filled,
    "copy": _copied,
    "atan2": lambda x, c: torch.atan2(x, c[0, 0, 0] + 1),
    "remainder": lambda x, c: x % (c[0, 0, 0] + 1),
    "xlogy": lambda x, c: torch.xlogy(c[0, 0, 0] + 1, x.abs()),
}


@pytest.mark.filterwarnings("ignore:.*channel_dim")
@pytest.mark.parametrize("use", CONSTANTS.values(), ids=CONSTANTS)
@pytest.mark.parametrize("values", [torch.arange(6), torch.ones(6).long(), torch.arange(6) > 2])
def test_constants_may_be_integers(use, values):
    def network(constant):
        return lambda x: _sum(torch.sin(use(x, constant.expand(len(x), 1, 6, 6))))

    assert_same_maps(network(values), network(values.double()), X)


COMPLEX_JOINS = {
    "cat": lambda x, c: torch.cat([x, c], 1),
    "index_add": lambda x, c: torch.index_add(x, 1, torch.tensor([2]), c),
    "scatter_add": lambda x, c: x.scatter_add(1, torch.zeros(c.shape, dtype=torch.long), c),
    "column_stack": lambda x, c: torch.column_stack([x, c]),
}


@pytest.mark.parametrize("join", COMPLEX_JOINS.values(), ids=COMPLEX_JOINS)
def test_constants_that_are_joined_may_be_complex(join):
    constant = torch.complex(C[0, 0], C[1, 1]).expand(2, 1, 6, 6)

    def forward(x):
        return _sum(torch.view_as_real(join(torch.complex(x, x * 2), constant)))

    whole = TGradAttribution(forward).decompose(X)
    torch.testing.assert_close(whole.output, forward(X))
    assert_complete(whole)


@pytest.mark.parametrize("like", ["view_as", "expand_as", "type_as", "to"])
def test_a_tensor_that_lends_its_shape_does_not_reach_the_result(like):
    def forward(a, b):
        return _sum(torch.sigmoid(getattr(a, like)(b))) + _sum(b * 2)

    def plain(a, b):
        return _sum(torch.sigmoid(a)) + _sum(b * 2)

    assert_same_maps(forward, plain, (X, X.flip(2).contiguous()))


def test_detached_in_place():
    def forward(x):
        gate = torch.sigmoid(x)
        gate.detach_()
        return _sum(x * gate)

    assert_same_maps(forward, lambda x: _sum(x * torch.sigmoid(x).detach()), X)


@pytest.mark.parametrize("elements", [40, 200, 2**20])
def test_grouped_queries_in_blocks(monkeypatch, elements):
    monkeypatch.setattr(summing, "ELEMENTS_OF_A_BLOCK", elements)
    q, k = (torch.randn(6, d, generator=GENERATOR, dtype=torch.float64) for d in (4, 4))

    def grouped(queries, keys):
        return F.scaled_dot_product_attention(queries, keys, keys, enable_gqa=True)

    def repeated(queries, keys):
        return F.scaled_dot_product_attention(queries, *[keys.repeat_interleave(2, 1)] * 2)

    def network(attend):
        return lambda x: (
            attend(torch.cat([x, x + 1], 1) @ q, x @ k).flatten(1) * WEIGHTS[:144]
        ).sum(1)

    assert_same_maps(network(grouped), network(repeated), X)


def _plain_attention(q, k, v, allowed):
    scores = (q @ k.mT / q.shape[-1] ** 0.5).exp() * allowed
    return scores / scores.sum(-1, keepdim=True).clamp_min(1e-300) @ v


HIDDEN = {
    "none": torch.ones(12, 12, dtype=torch.bool),
    "causal": torch.ones(12, 12).tril().bool(),
    "padding": torch.arange(12).expand(12, 12) < 9,
    "a whole row": (torch.arange(12) != 5)[:, None].expand(12, 12),
}


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("scale", [1e-3, 1, 100], ids="scores x {}".format)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.05)],
    ids=["float64", "float32", "bfloat16"],
)
@pytest.mark.parametrize("block", [30, 2**19])
def test_the_term_of_fused_attention(hidden, scale, dtype, tolerance, block, monkeypatch):
    if dtype == torch.bfloat16 and scale == 100:
        pytest.skip("the scores of bfloat16 are too coarse for such large ones")
    monkeypatch.setattr(attention, "_BLOCK_OF_SCORES", block)
    monkeypatch.setattr(attention, "_KEYS_PER_CHANNEL", 1)
    allowed = HIDDEN[hidden]
    x = torch.randn(2, 12, 24, generator=GENERATOR).to(dtype)
    x[..., :8] *= scale
    x[..., 16:] += 4
    weight = torch.randn(12, 8, generator=GENERATOR).double()
    masks = {"none": {}, "causal": {"is_causal": True}}.get(hidden, {"attn_mask": allowed})

    def attend(x):
        q, k, v = (part.unflatten(2, (2, 4)).transpose(1, 2) for part in x.chunk(3, 2))
        y = F.scaled_dot_product_attention(q, k, v, **masks)
        return (y.transpose(1, 2).flatten(2).double() * weight).flatten(1).sum(1)

    parts = [part.unflatten(2, (2, 4)).transpose(1, 2) for part in x.double().chunk(3, 2)]
    y, derivative = torch.func.jvp(
        lambda q, k, v: _plain_attention(q, k, v, allowed), (*parts,), (*parts,)
    )
    expected = (y - derivative).transpose(1, 2).flatten(2) * weight
    (term,) = TGradAttribution(attend).decompose(x, channel_dim=2).biases[:1]
    size = float(expected.abs().sum(2).max())
    for found, values in (
        (term.positive[:, 0], expected.clamp_min(0).sum(2)),
        (term.negative[:, 0], (-expected).clamp_min(0).sum(2)),
    ):
        torch.testing.assert_close(found.double(), values, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("limit", [0.1, 0.2, 0.3, 0.7])
def test_a_limit_in_half_precision(dtype, limit):
    x = X.to(dtype)
    whole = TGradAttribution(lambda x: x.clamp(min=limit).clamp(min=limit).flatten(1).sum(1))
    found = whole.decompose(x)
    scale = sum(term.score.abs() for term in found.terms)
    assert bool((found.delta.abs() <= 0.01 * scale).all())


def test_a_hidden_operation_in_half_precision_does_not_overflow():
    x = (torch.rand(1, 12, generator=GENERATOR) * 50 + 150).half()
    found = TGradAttribution(lambda x: (square(x / 5).float() * 20).sum(1)).decompose(x)
    scale = sum(term.score.abs() for term in found.terms)
    assert bool((found.delta.abs() <= 0.01 * scale).all())


def test_a_window_given_by_tensors_that_change():
    start, stop = torch.tensor(0), torch.tensor(3)
    method = TGradAttribution(lambda x: torch.sigmoid(x[:, :, start:stop]).flatten(1).sum(1))
    for first in (0, 2):
        start.fill_(first)
        stop.fill_(first + 3)
        rows = method.decompose(X).biases[-1].positive[0, 0].sum(1).nonzero().flatten()
        assert rows.tolist() == [first, first + 1, first + 2]


def test_trying_an_operation_leaves_the_random_state_alone_in_threads():
    weight = torch.randn(6, 6, generator=GENERATOR, dtype=torch.float64)

    def work():
        for size in range(2, 8):
            x = torch.ones(size, 6, dtype=torch.float64)
            TGradAttribution(
                lambda x: torch.addmm(torch.zeros(6).double(), x, weight).square().sum(1)
            ).decompose(x)

    before = torch.get_rng_state()
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_layer_that_returns_a_list():
    class Pair(nn.Module):
        def forward(self, x):
            return [x, x * 2]

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Pair()

        def forward(self, x):
            return _sum(sum([*self.layer(x), x]))

    network = Network()
    first, second = LayerTGradAttribution(network, network.layer).attribute(X)
    assert first.shape == second.shape == X.shape


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: torch.where(condition=x > 0.5, input=x, other=torch.zeros((), dtype=x.dtype)),
        lambda x: torch.where(x > 0.5, input=x, other=-x),
        lambda x: torch.polygamma(n=1, input=x + 1),
        lambda x: torch.special.polygamma(n=1, input=x + 1),
    ],
)
def test_input_is_not_always_the_first_parameter(forward):
    x = torch.rand(2, 3).double()
    assert_complete(TGradAttribution(lambda x: forward(x).sum(1)).decompose(x))


INDEX = torch.tensor([[0], [2]])


@pytest.mark.parametrize(
    "fill",
    [
        lambda x: torch.where(x > 0.5, input=x, other=2.0),
        lambda x: torch.where(x > 0.5, self=2.0, other=x),
        lambda x: x.masked_fill(x > 0.5, value=2.0),
        lambda x: x.index_fill(1, INDEX[:, 0], value=2.0),
        lambda x: x.scatter(1, INDEX, value=2.0),
        lambda x: x.clone().copy_(other=torch.arange(3)) + x,
        lambda x: F.pad(x, (1, 1), value=2.0),
        lambda x: F.pad(x, (1, 1), "constant", 2.0),
    ],
)
def test_numbers_to_fill_in_may_be_named(fill):
    x = torch.rand(2, 3).double()
    assert_complete(TGradAttribution(lambda x: fill(x).sum(1)).decompose(x))


def test_masked_logits_of_half_precision_add_nothing():
    z = torch.tensor([[20000.0, -torch.inf, 19990.0]], dtype=torch.float16).requires_grad_()
    call = Call(torch.softmax, (z, -1), {}, operation_of(torch.softmax))
    output = call()
    bias = call.record.bias(call, output)
    bias.freeze()  # in its own precision, as before an operation in place
    assert bool(bias.value().isfinite().all())
    assert bias.value()[0, 1] == 0


def test_gelu_of_numbers_whose_squares_overflow_adds_nothing():
    z = torch.tensor([[1e30, -1e30, 40.0, -40.0]]).requires_grad_()
    call = Call(torch.nn.functional.gelu, (z,), {}, operation_of(torch.nn.functional.gelu))
    assert torch.equal(call.record.bias(call, call()).value(), torch.zeros(1, 4))


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm([4, 4, 4])])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_overwritten_norm_in_half_precision(norm, activation, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Conv2d(3, 4, 3), nn.Linear(64, 1)
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = []
    for in_place in (True, False):
        layers = [first, norm, activation(inplace=in_place), nn.Flatten(), last]
        model = copy.deepcopy(nn.Sequential(*layers)).to(dtype).eval()
        found.append(TGradAttribution(model).attribute(x))
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-3)


def test_the_type_of_a_softmax_in_any_form():
    x = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))
    forms = [
        lambda x: torch.softmax(x, -1, torch.float64),
        lambda x: x.softmax(-1, dtype=torch.float64),
        lambda x: F.softmax(x, -1, dtype=torch.float64),
        lambda x: x.double().softmax(-1),
    ]
    found = [TGradAttribution(lambda x, f=f: f(x).square().sum((1, 2))).attribute(x) for f in forms]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other)


def test_a_softmax_of_nothing():
    x = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0))

    def forward(x):
        return torch.cat([x[:, :, :0].softmax(-1), x], -1).sum((1, 2))

    torch.testing.assert_close(TGradAttribution(forward).attribute(x), x)


@pytest.mark.parametrize("samples", [1, 2])
def test_tiles_that_hold_only_padding(samples):
    x = torch.rand(samples, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()

    def forward(x):
        columns = F.pad(x, (4, 4, 4, 4)).split(4, 2)
        return sum((column + 0.1).relu().flatten(1).sum(1) for column in columns)

    def whole(x):
        return (F.pad(x, (4, 4, 4, 4)) + 0.1).relu().flatten(1).sum(1)

    assert_same_maps(forward, whole, x, aggregations=["paper"])  # the tiles are levels


OVERWRITTEN = {
    "add": (lambda y: y.add_(1), lambda y: y + 1),
    "sub": (lambda y: y.sub_(y.detach()[:1] / 2), lambda y: y - y.detach()[:1] / 2),
    "mul constant": (lambda y: y.mul_(2j), lambda y: y * 2j),
    "mul": (lambda y: y.mul_(y.flip(2)), lambda y: y * y.flip(2)),
    "square": (lambda y: y.square_(), lambda y: y.square()),
    "sqrt": (lambda y: y.sqrt_(), lambda y: y.sqrt()),
}


@pytest.mark.parametrize(("in_place", "plain"), OVERWRITTEN.values(), ids=OVERWRITTEN)
@pytest.mark.filterwarnings("ignore:An operation loses the positions")
def test_a_complex_tensor_overwritten_as_a_whole(in_place, plain):
    def network(change):
        return lambda x: torch.view_as_real(change(torch.fft.fft(x))).square().flatten(1).sum(1)

    assert_same_maps(network(in_place), network(plain), torch.rand(1, 3, 6, 6).double())


def _real_part_moved(values, x):
    z = torch.complex(x, x * 2)
    z.real.add_(1)
    return z


def _imaginary_part_assigned(values, x):
    z = torch.complex(x, x * 2)
    z.imag[..., 1:] = x[..., :-1] * 3
    return z


def _into_parts(values, x):
    values.real.copy_(x)
    values.imag.copy_(x * 2)
    return values


def _into_pairs(values, x):
    pairs = torch.view_as_real(values)
    pairs[..., 0], pairs[..., 1] = x, x * 2
    return values


def _into_complex_view(values, x):
    pairs = torch.view_as_real(values).clone()
    torch.view_as_complex(pairs).copy_(torch.complex(x, x * 2))
    return torch.view_as_complex(pairs)


def _into_rows(values, x):
    values[:, :, :2].copy_(torch.complex(x, x * 2)[:, :, :2])
    return values


def _pairs_scaled(values, x):
    pairs = torch.stack([x, x * 2], -1)
    torch.view_as_complex(pairs).mul_(2)
    return torch.view_as_complex(pairs)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(
    ("written", "plain"),
    [
        (_into_parts, lambda z: z),
        (_into_pairs, lambda z: z),
        (_into_complex_view, lambda z: z),
        (_into_rows, lambda z: torch.cat([z[:, :, :2], torch.full_like(z[:, :, 2:], 2 + 3j)], 2)),
        (_pairs_scaled, lambda z: z * 2),
        (_real_part_moved, lambda z: z + 1),
        (
            _imaginary_part_assigned,
            lambda z: torch.complex(z.real, torch.cat([z.imag[..., :1], z.real[..., :-1] * 3], -1)),
        ),
    ],
)
def test_views_of_complex_numbers_and_complex_views_are_overwritten(written, plain, samples):
    def network(values):
        return lambda x: (values(x) + 1).abs().sum((1, 2, 3))

    assert_same_maps(
        network(lambda x: written(torch.full(x.shape, 2 + 3j, dtype=torch.complex128), x)),
        network(lambda x: plain(torch.complex(x, x * 2))),
        torch.rand(samples, 3, 6, 6).double(),
    )
