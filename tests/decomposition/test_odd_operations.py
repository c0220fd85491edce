"""Operations with an odd derivative: the terms are those of what autograd really computes."""

import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_same_maps, randn

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(2, 3, 6, 6, generator=GENERATOR, dtype=torch.float64)
BOX = [torch.tensor([[0.0, 0.0, 5.0, 4.0]], dtype=torch.float64)] * 2
OFFSETS = torch.randn(2, 18, 6, 6, generator=GENERATOR, dtype=torch.float64) / 3
WEIGHT = torch.randn(3, 3, 3, 3, generator=GENERATOR, dtype=torch.float64)
INDEX = torch.randint(6, (2, 3, 6, 6), generator=GENERATOR)
BAG = torch.tensor([0, 2, 1, 3, 1, 0])


@torch.library.custom_op("captum_tgrad_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@torch.library.custom_op("captum_tgrad_tests::cube", mutates_args=())
def cube(x: torch.Tensor) -> torch.Tensor:
    return x**3


twice.register_autograd(lambda ctx, gradient: gradient * 2)
cube.register_autograd(
    lambda ctx, gradient: gradient * 3 * ctx.saved_tensors[0] ** 2,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
)


def _sum(x):
    return x.flatten(1).sum(1)


LINEAR = {
    "roi_align": lambda x: _sum(torchvision.ops.roi_align(x, BOX, 3)),
    "roi_pool": lambda x: _sum(torchvision.ops.roi_pool(x, BOX, 2)),
    "deform_conv2d": lambda x: _sum(torchvision.ops.deform_conv2d(x, OFFSETS, WEIGHT, padding=1)),
    "custom op": lambda x: _sum(twice(x)),
    "embedding_bag": lambda x: F.embedding_bag(
        BAG, x.flatten(1).T.contiguous(), torch.tensor([0, 3]), mode="sum"
    ).sum(0),
    "scatter_reduce sum": lambda x: _sum(torch.zeros_like(x).scatter_reduce(3, INDEX, x, "sum")),
    "broadcast_tensors": lambda x: _sum(torch.broadcast_tensors(x, torch.ones(1, 1, 6, 6))[0]),
    "meshgrid": lambda x: torch.meshgrid(x[:, 0, 0, 0], torch.ones(2).double(), indexing="ij")[
        0
    ].sum(1),
    "atleast_3d": lambda x: _sum(torch.atleast_3d(x[:, 0, 0])),
    "topk": lambda x: _sum(x.topk(2)[0]),
    "sort": lambda x: _sum(x.sort()[0]),
    "norm": lambda x: x.flatten(1).norm(dim=1),
    "cdist": lambda x: _sum(torch.cdist(x[:, 0], x[:, 1])),
    "to_sparse": lambda x: _sum(torch.stack([each.to_sparse().to_dense() for each in x])),
    "index_add of numbers": lambda x: torch.stack([_added_to_one(each) for each in x]),
}


def _added_to_one(sample):
    first, second, *_ = sample.flatten()
    return first.index_add(0, torch.tensor([0]), second) + second.scatter_add(
        0, torch.tensor(0), first
    )


def _decomposed(forward, x=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(forward).decompose(x)
    torch.testing.assert_close(whole.output, forward(x).detach())
    scale = sum(term.score.abs() for term in whole.terms)
    assert bool((whole.delta.abs() <= 1e-9 * scale).all())
    return whole


@pytest.mark.parametrize("name", LINEAR)
def test_an_operation_of_degree_one_adds_nothing(name):
    whole = _decomposed(LINEAR[name])
    torch.testing.assert_close(whole.input.score, whole.output)
    for term in whole.biases:
        torch.testing.assert_close(term.score, torch.zeros_like(term.score), atol=1e-9, rtol=0)


PARTED = {
    "custom op": (lambda x: _sum(cube(x)), -2 * _sum(X**3)),
    "norm of order 0": (
        lambda x: _sum(x) + torch.linalg.vector_norm(x.flatten(1), 0, dim=1),
        torch.full((2,), 108.0, dtype=torch.float64),
    ),
    "norm of order 0 by its old name": (
        lambda x: _sum(x) + x.flatten(1).norm(0, dim=1),
        torch.full((2,), 108.0, dtype=torch.float64),
    ),
    "cdist of order 0": (
        lambda x: _sum(torch.cdist(x[:, 0], x[:, 1], p=0.0)),
        torch.full((2,), 216.0, dtype=torch.float64),
    ),
    "maximum with a number": (
        lambda x: _sum(torch.maximum(x, torch.tensor(0.1, dtype=x.dtype))),
        0.1 * _sum((X < 0.1).double()),
    ),
    "elu": (
        lambda x: _sum(F.elu(x, 0.7) + F.elu(-x, 0.7)),
        _sum(0.7 * ((1 + X.abs()) * (-X.abs()).exp() - 1)),
    ),
    "sgn": (lambda x: _sum(x.sgn()), _sum(X.sgn())),
    "std": (lambda x: x.flatten(1).std(1), torch.zeros(2, dtype=torch.float64)),
    "var": (lambda x: x.flatten(1).var(1), -X.flatten(1).var(1)),
}


@pytest.mark.parametrize("name", PARTED)
def test_what_an_operation_adds(name):
    forward, expected = PARTED[name]
    whole = _decomposed(forward)
    total = sum((term.score for term in whole.biases), torch.zeros_like(whole.output))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize(
    ("clamp", "term"),
    [
        (lambda x: x.clamp(0, 1), "clamp"),
        (lambda x: F.hardtanh(x, 0.0, 1.0), "hardtanh"),
        (lambda x: x.clamp(max=1), "clamp"),
        (lambda x: x.clamp_max(1), "clamp_max"),
        (lambda x: x.clamp(min=1.0), "clamp"),
        (lambda x: x.clamp_min(1.0), "clamp_min"),
        (lambda x: torch.clip(x, 0, 1), "clip"),
        (lambda x: (x * 6).clamp(0, 6), "clamp"),
        (lambda x: F.relu6(x * 6), "relu6"),
        (lambda x: x.clone().clamp_(0, 1), "clamp"),
    ],
)
def test_a_clamp_at_its_limit_follows_the_gradient_that_torch_takes(clamp, term):
    x = torch.tensor([[0.0, 0.5, 1.0, 1.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(clamp(x).sum(), x)
    expected = (clamp(x) - slope * x).sum().detach()
    whole = _decomposed(lambda x: clamp(x).sum(1), x.detach())
    total = sum((each.score for each in whole.biases), torch.zeros(1, dtype=torch.float64))
    torch.testing.assert_close(total, expected[None])
    assert {each.name for each in whole.biases} <= {term}


def test_a_derivative_without_memory_is_zero():
    whole = _decomposed(lambda x: sum(torch.linalg.slogdet(x[:, 0])), X[:1, :1, :1, :1])
    number = X[0, 0, 0, 0]
    sign, logarithm = (term.score for term in whole.biases)
    torch.testing.assert_close(sign, number.sgn()[None])
    torch.testing.assert_close(logarithm, number.abs().log()[None] - 1)


def test_fake_quantization_and_its_observers():
    from torch.ao.quantization import FakeQuantize, MinMaxObserver

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fake = FakeQuantize(observer=MinMaxObserver, quant_min=0, quant_max=255)
        network = nn.Sequential(nn.Conv2d(3, 4, 3), fake, nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        x = X.float()
        network(x)
        network.apply(torch.ao.quantization.disable_observer)
        whole = TGradAttribution(network.eval()).decompose(x, target=1)
        scale = sum(term.score.abs() for term in whole.terms)
        assert bool((whole.delta.abs() <= 1e-4 * scale).all())
        torch.testing.assert_close(whole.output, network(x)[:, 1].detach())


Y = torch.randn(2, 108, generator=GENERATOR, dtype=torch.float64)
REDUCTIONS = {
    "cosine_similarity": lambda x: F.cosine_similarity(x.flatten(1), Y[: len(x)]),
    "pairwise_distance": lambda x: F.pairwise_distance(x.flatten(1), Y[:1]),
    "cross_entropy": lambda x: F.cross_entropy(
        x.flatten(1), 7 + torch.arange(len(x)), reduction="none"
    ),
    "std_mean": lambda x: torch.std_mean(x.flatten(1), dim=1)[0],
    "aminmax": lambda x: torch.aminmax(x.flatten(1), dim=1)[1],
    "quantile": lambda x: torch.quantile(x.flatten(1), 0.3, dim=1),
    "trapezoid": lambda x: torch.trapezoid(x.flatten(1)),
    "svdvals": lambda x: torch.linalg.svdvals(x[:, 0]).sum(1),
    "det": lambda x: torch.linalg.det(x[:, 0]),
}


def _has_derivative(forward):
    leaf = X.clone().requires_grad_()
    try:
        forward(leaf).sum().backward()
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        return False
    return True


@pytest.mark.parametrize("name", REDUCTIONS)
def test_an_operation_without_a_record_keeps_the_samples_apart(name):
    forward = REDUCTIONS[name]
    if not _has_derivative(forward):
        pytest.skip("this torch has no derivative of the operation")
    whole = _decomposed(lambda x: forward(F.silu(x)))
    alone = _decomposed(lambda x: forward(F.silu(x)), X[:1])
    for term, own in zip(whole.terms, alone.terms, strict=True):
        torch.testing.assert_close(term.score[0], own.score[0])


def test_global_pooling_after_a_roll_has_no_place():
    for pool in (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), lambda x: x.mean((2, 3))):
        whole = TGradAttribution(lambda x: (pool(x.roll(2, 3)) + 1).sum(1)).decompose(X)  # noqa: B023
        assert whole.biases[-1].positive.shape == (2, 1)


WEIGHTS = torch.randn(1, 7, 6, 6, generator=GENERATOR, dtype=torch.float64)
TABLE = torch.randn(10, generator=GENERATOR, dtype=torch.float64)
LAYER = nn.Linear(6, 6).double()
EXACT = {
    "a product at indices": lambda x: _sum(
        torch.ones_like(x).scatter_reduce(3, INDEX[: len(x)], x, "prod")
    ),
    "a linear layer that is concatenated": lambda x: _sum(
        torch.cat([LAYER(x), x.square(), x[:, :1]], 1) * WEIGHTS
    ),
    "two linear layers that are concatenated": lambda x: _sum(
        torch.cat([LAYER(x[:, 0]), LAYER(x[:, 1].square())], 1).square()
    ),
    "a real Fourier transform as pairs": lambda x: _sum(
        torch.view_as_real(torch.fft.rfft(x)).square()
    ),
    "complex numbers from pairs": lambda x: _sum(
        torch.view_as_complex(x.unflatten(3, (3, 2)).contiguous()).abs().square()
    ),
    "an index without a gradient": lambda x: _sum(x + TABLE[(x // 0.3).long().clamp(0, 9)]),
    "a quotient that is detached": lambda x: _sum(x * (x // 0.3).detach()),
    "attention with a scale and a mask": lambda x: _sum(
        F.scaled_dot_product_attention(
            x, x[:, :, :4], x[:, :, 2:] * 2, torch.eye(6, 4) + 0.1, scale=0.7
        )
    ),
    "attention to no keys": lambda x: _sum(
        F.scaled_dot_product_attention(x, x[:, :, :0], x[:, :, :0]) + x.square()
    ),
    "one head of queries for all keys": lambda x: _sum(
        F.scaled_dot_product_attention(x[:, :1], x, x + 1).square()
    ),
    "causal attention": lambda x: _sum(F.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "distances of points to themselves": lambda x: _sum(
        torch.cdist(x.flatten(1, 2), x.flatten(1, 2))
    ),
    "differences": lambda x: _sum(F.gelu(x.diff(dim=3))),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("samples", [1, 2])
def test_sums_are_exact(name, samples):
    _decomposed(EXACT[name], X[:samples])


ROWS = torch.ones(3, 108).double()


@pytest.mark.parametrize(
    ("bias", "expected"),
    [
        (lambda x: torch.arange(6.0).double().reshape(2, 3), [2, 5]),
        (lambda x: F.linear(x, ROWS, torch.arange(3.0).double()), [2, 2]),
    ],
    ids=["constant", "of the input"],
)
def test_a_linear_layer_with_a_bias_for_each_sample(bias, expected):
    method = TGradAttribution(lambda x: F.linear(x, ROWS, bias(x)))
    whole = method.decompose(X.flatten(1), target=2)
    assert [term.score.tolist() for term in whole.biases] == [expected]


def _lower_triangle_by_hand(a, b, c):
    first = a.sqrt()
    second = b / first
    return first, second, (c - second.square()).sqrt()


def _lower_triangle(a, b, c):
    factor = torch.linalg.cholesky(torch.stack([a, b, b, c], -1).unflatten(-1, (2, 2)))
    return factor[..., 0, 0], factor[..., 1, 0], factor[..., 1, 1]


def test_a_factorization_that_rejects_random_numbers_is_at_its_matrices():
    def evidence(factored):
        def forward(x):
            a, b, c = x.unbind(1)
            factors = factored(1 + a.square(), b, 2 + b.square() + c.square())
            return _sum(torch.stack(factors, 1) * X[0])

        whole = _decomposed(forward, X)
        assert bool((whole.placed > 1 - 1e-9).all())
        return sum(term.positive - term.negative for term in whole.biases)

    torch.testing.assert_close(evidence(_lower_triangle), evidence(_lower_triangle_by_hand))


def test_differences_are_between_their_neighbors():
    assert_same_maps(
        lambda x: _sum(F.gelu(x.diff(dim=3))[..., :2]),
        lambda x: _sum(F.gelu(x[..., 1:] - x[..., :-1])[..., :2]),
        X,
    )


def test_an_operation_without_a_record_moves_its_elements():
    def restored(x, by_hand):
        pooled, indices = F.max_pool2d(x, 2, return_indices=True)
        if not by_hand:
            return F.max_unpool2d(pooled, indices, 2)
        zeros = torch.zeros_like(x).flatten(2)
        return zeros.scatter(2, indices.flatten(2), pooled.flatten(2)).view_as(x)

    unpooled, by_hand = (
        lambda x, own=own: _sum(F.gelu(restored(F.gelu(x), own))[..., :3]) for own in (False, True)
    )
    assert_same_maps(unpooled, by_hand, X)


def test_the_first_step_of_a_causal_convolution_is_at_the_start():
    conv = nn.Conv1d(3, 1, 3).double()
    signal = X[:, :, 0]
    whole = TGradAttribution(lambda x: F.gelu(conv(F.pad(x, (2, 0))))[:, 0, 0]).decompose(signal)
    for term in whole.terms:
        evidence = term.positive + term.negative
        assert float(evidence[..., 1:].abs().sum()) == 0, term.name


def test_a_signal_without_channels_is_noticed():
    conv = nn.Conv1d(1, 2, 3).double()
    method = TGradAttribution(lambda x: conv(x[:, None]).relu().sum((1, 2)))
    with pytest.warns(UserWarning, match="pass channel_dim=None"):
        method.decompose(X[:, 0, 0])
    assert method.decompose(X[:, 0, 0], channel_dim=None).biases[0].positive.shape == (2, 1, 4)


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(
    "picked",
    [
        lambda x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1),
        lambda x: torch.where(x[:, :1] > 0, x[:, 1:2], x[:, 2:]),
    ],
)
def test_one_channel_of_each_pixel_is_no_position(picked, samples):
    for padding in ([0] * 4, [1] * 4):

        def forward(x, padding=padding):
            return F.conv2d(F.pad(picked(x), padding), WEIGHT[:, :1]).relu().sum((1, 2, 3))

        TGradAttribution(forward).decompose(X[:samples])  # a warning is an error


def test_a_signal_whose_channels_follow_one_another_is_noticed():
    conv = nn.Conv1d(1, 2, 3).double()
    method = TGradAttribution(lambda x: conv(x.flatten(1)[:, None]).relu().sum((1, 2)))
    with pytest.warns(UserWarning, match="uses dimension 1 of inputs as positions"):
        method.decompose(X[:, :, 0])


@pytest.mark.parametrize(
    "mix",
    [
        lambda h: F.linear(h.flatten(2), torch.ones(1, 8).double()),
        lambda h: F.linear(h.mT, torch.ones(1, 4).double()),
    ],
    ids=["head", "mixer"],
)
def test_a_network_of_each_channel_has_positions_and_channels(mix):
    """A layer mixes positions, as in PatchTST and PatchTSMixer, but these are no channels."""
    scale = torch.ones(2).double()
    method = TGradAttribution(
        lambda x: mix((x[..., None] * scale + 1).relu()).sigmoid().flatten(1).sum(1)
    )
    signals = X[:, :, 0, :4]  # (N, channels, 4)
    with pytest.warns(UserWarning, match="pass channel_dim=None"):
        method.decompose(signals)
    added = method.decompose(signals, channel_dim=None).biases[0]  # a warning is an error
    assert added.positive.shape[2:] == signals.shape[1:]


class OfFeatures(nn.Module):
    """A token of each feature of a table, as in FT-Transformer, and a layer of tokens."""

    def __init__(self, layer):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
        self.layer = layer

    def forward(self, x):
        y = self.layer(x[..., None] * self.scale + self.shift)
        return (y[0] if isinstance(y, tuple) else y).relu().sum((1, 2))


@pytest.mark.parametrize(
    ("network", "is_noticed"),
    [
        (OfFeatures(nn.Linear(2, 2)), True),
        (OfFeatures(nn.GRU(2, 2, batch_first=True)), True),
        (OfFeatures(nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Unflatten(1, (2, 2)))), False),
        (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1), nn.Flatten(0)), False),
    ],
)
def test_features_of_a_table_that_are_positions_are_noticed(network, is_noticed):
    method, x = TGradAttribution(network.double()), X[:, :, 0, 0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.decompose(x)
    assert any("pass channel_dim=None" in str(each.message) for each in caught) == is_noticed
    if is_noticed:
        assert method.decompose(x, channel_dim=None).biases[0].positive.shape == (2, 1, 3)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_inside_of_a_model_are_refused(layout):
    linear = nn.Linear(4, 3)

    def network(x):
        nested = torch.nested.as_nested_tensor([x[0], x[1][:2]], layout=layout)
        return linear(nested).to_padded_tensor(0.0).sum(1)

    with pytest.raises(ValueError, match="computes with nested tensors"):
        TGradAttribution(network).attribute(torch.rand(2, 3, 4), 1)


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_constants_inside_of_a_model(layout):
    linear = nn.Linear(4, 3).double()

    def network(x):
        h = linear(x).sigmoid()
        # Unlike as_nested_tensor, this copies the rows without their gradient.
        rows = torch.nested.nested_tensor([h[0], h[1][:2]], layout=layout)
        return (h * rows.to_padded_tensor(0.0).detach()).sum(1)

    x = torch.rand(2, 3, 4).double()
    assert_complete(TGradAttribution(network).decompose(x, 1, channel_dim=2))


class _Quantized(torch.Tensor):
    """A weight as of a library for quantization, which supports only what it needs itself."""

    @staticmethod
    def __new__(cls, values, scale):
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, dtype=scale.dtype)

    def __init__(self, values, scale):
        self.values, self.scale = values, scale

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is F.linear:
            z, weight, *bias = args
            return F.linear(z, weight.values.to(z) * weight.scale, *bias)
        return super().__torch_function__(func, types, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func not in (torch.ops.aten.detach.default, torch.ops.aten.clone.default):
            raise NotImplementedError(func)
        return cls(args[0].values, args[0].scale)


@pytest.mark.parametrize("channel_dim", [1, 2])
def test_a_quantized_weight_has_the_map_of_its_values(channel_dim):
    values, scale = torch.randint(-9, 9, (5, 6), dtype=torch.int8), torch.tensor(0.1).double()
    quantized, plain = nn.Linear(6, 5).double(), nn.Linear(6, 5).double()
    quantized.weight = nn.Parameter(_Quantized(values, scale), requires_grad=False)
    plain.weight = nn.Parameter(values.double() * scale)
    plain.bias = quantized.bias
    networks = (
        lambda x, layer=layer: layer(x.movedim(channel_dim, 2)).relu().sum((1, 2))
        for layer in (quantized, plain)
    )
    assert_same_maps(*networks, X[:, 0], channel_dim=channel_dim)


def test_the_first_operation_without_a_record_imports_no_sympy():
    code = (
        "import sys, torch; from captum_tgrad import TGradAttribution;"
        "TGradAttribution(torch.sinc).attribute(torch.ones(1, 3), target=0);"
        "print('sympy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("depends", ["offsets", "offsets and mask", "mask"])
@pytest.mark.parametrize("biased", [True, False])
def test_deformable_convolution_is_where_its_points_are(depends, biased):
    convolutions = nn.Conv2d(3, 18, 3, padding=1).double(), nn.Conv2d(3, 9, 3, padding=1).double()
    weight, x = randn(4, 3, 3, 3, seed=1), randn(2, 3, 6, 6, seed=2)
    bias = randn(4, seed=3) if biased else None
    shown = torch.zeros(4, 6, 6).double()
    shown[:, 2, 4] = randn(4, seed=4)

    def arguments(x):
        offsets, mask = (each(x) for each in convolutions)
        if depends == "mask":
            offsets = randn(2, 18, 6, 6, seed=6)
        return x, offsets, None if depends == "offsets" else mask.sigmoid()

    def network(image, offsets, mask, bias=bias):
        y = torchvision.ops.deform_conv2d(image, offsets, weight, bias, padding=1, mask=mask)
        return (y * shown).flatten(1).sum(1)

    term = TGradAttribution(lambda x: network(*arguments(x))).decompose(x)["deform_conv2d"]
    # y - d y(t z) / dt at t = 1, for the arguments z that depend on the input.
    image, offsets, mask = (None if each is None else each.detach() for each in arguments(x))
    t = torch.ones(2, 1, 1, 1).double().requires_grad_()
    scaled = (
        image * t,
        offsets if depends == "mask" else offsets * t,
        None if mask is None else mask * t,
    )
    (slope,) = torch.autograd.grad(network(*scaled, bias=None).sum(), t)
    expected = network(image, offsets, mask, bias=None) - slope.flatten()
    torch.testing.assert_close(term.score, expected)
    assert term.positive.shape == (2, 1, 6, 6)
    evidence = term.positive + term.negative
    torch.testing.assert_close(evidence[:, 0, 2, 4], evidence.sum((1, 2, 3)))
    assert float(evidence.sum()) > 0


def test_points_of_another_input_depend_on_both():
    offsets, weight = nn.Conv2d(3, 18, 3, padding=1).double(), randn(4, 3, 3, 3, seed=1)

    def forward(image, guide):
        y = torchvision.ops.deform_conv2d(image, offsets(guide), weight, padding=1)
        return y.tanh().flatten(1).sum(1)

    found = TGradAttribution(forward).decompose((X, X.flip(3)))
    assert_complete(found)
    assert found["deform_conv2d"].inputs == (0, 1)


def _flat(x):
    return x.flatten(2)


def _every_second(x):
    return x.flatten(2)[..., ::2].exp()


def _first(x):
    return x[..., :1].exp()


def _middle(x):
    return x.select(-1, x.shape[-1] // 2).exp()


def _masked_sum(x):
    return (x.exp() * (torch.arange(x.shape[-1]) % 2).double()).sum(-1)


def _weighted_sum(x):
    return (x * torch.linspace(-1, 2, x.shape[-1]).double()).sum(-1)


def _kept_sum(x):
    return x.exp().sum(-1, keepdim=True)


LIBRARY = torch.library.Library("captum_tgrad_tests_of_places", "DEF")
PICKS = (_every_second, _first, _middle, _masked_sum)
for function in (*PICKS, _flat, _weighted_sum, _kept_sum):
    LIBRARY.define(f"{function.__name__}(Tensor x) -> Tensor")
    LIBRARY.impl(function.__name__, function, "CompositeImplicitAutograd")


def _without_rule(function):
    return getattr(torch.ops.captum_tgrad_tests_of_places, function.__name__)


def _after(operation):
    return lambda x: _sum(operation(x.tanh()).tanh()).unsqueeze(1)


@pytest.mark.parametrize("plain", [_flat, _weighted_sum, _kept_sum], ids=lambda f: f.__name__)
@pytest.mark.filterwarnings("error")
def test_moves_and_sums_of_operations_without_a_rule_are_found(plain):
    found = TGradAttribution(_after(_without_rule(plain))).decompose(X, 0)
    wanted = TGradAttribution(_after(plain)).decompose(X, 0)
    for number in (0, -1):
        own, other = found.biases[number], wanted.biases[number]
        torch.testing.assert_close((own.positive, own.negative), (other.positive, other.negative))


@pytest.mark.parametrize("plain", PICKS, ids=lambda f: f.__name__)
def test_an_operation_without_a_rule_that_picks_elements_says_that_it_loses_their_positions(plain):
    with pytest.warns(UserWarning, match="loses the positions"):
        assert_complete(TGradAttribution(_after(_without_rule(plain))).decompose(X, 0))
