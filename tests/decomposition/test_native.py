"""Functions of ``torch.ops`` have the maps of the functions of torch that they are."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

ATEN = torch.ops.aten


X = randn(2, 3, 8, 8)
W, B = randn(4, 3, 3, 3, seed=1), randn(4, seed=2)
MATRIX = randn(4, 144, seed=8)
TRANSPOSED = randn(3, 4, 2, 2, seed=3)
GAMMA, BETA, MEAN = (randn(4, seed=seed) for seed in (4, 5, 6))
VARIANCE = randn(4, seed=7).abs() + 0.5
GRID = F.affine_grid(
    torch.tensor([[1.0, 0.2, 0.1], [0, 0.8, 0]]).double().expand(2, 2, 3),
    [2, 4, 5, 5],
    align_corners=False,
)


def _layer(x):
    return F.relu(F.conv2d(x, W, B))


def _with(z, values):
    z = z.clone()
    z[:, :, [0, 3]] = values
    return z


def _read(z):
    """Two logits to which no two elements contribute alike."""
    z = z.flatten(1)
    weight = torch.linspace(0.5, 2, z.shape[1], dtype=z.dtype)
    return torch.stack([(z * weight).sum(1), (z.cos() * weight).sum(1)], 1)


NORM = (MEAN, VARIANCE, GAMMA, BETA)
PAIRS = {
    "conv2d": (lambda x: ATEN.conv2d(x, W, B), lambda x: F.conv2d(x, W, B)),
    "convolution": (
        lambda x: ATEN.convolution.default(x, W, B, [2, 1], [1, 0], [1, 1], False, [0, 0], 1),
        lambda x: F.conv2d(x, W, B, (2, 1), (1, 0)),
    ),
    "transposed convolution": (
        lambda x: ATEN.convolution(x, TRANSPOSED, B, [2, 2], [0, 0], [1, 1], True, [1, 1], 1),
        lambda x: F.conv_transpose2d(x, TRANSPOSED, B, stride=2, output_padding=1),
    ),
    "linear": (
        lambda x: ATEN.linear.default(_layer(x).flatten(1), MATRIX, B),
        lambda x: F.linear(_layer(x).flatten(1), MATRIX, B),
    ),
    "batch_norm": (
        lambda x: ATEN.batch_norm(_layer(x), GAMMA, BETA, MEAN, VARIANCE, False, 0.1, 1e-3, False),
        lambda x: F.batch_norm(_layer(x), *NORM, eps=1e-3),
    ),
    "native batch norm": (
        lambda x: ATEN._native_batch_norm_legit_no_training(
            _layer(x), GAMMA, BETA, MEAN, VARIANCE, 0.1, 1e-3
        )[0],
        lambda x: F.batch_norm(_layer(x), *NORM, eps=1e-3),
    ),
    "native_layer_norm": (
        lambda x: ATEN.native_layer_norm.default(x, [8, 8], None, None, 0.1)[0],
        lambda x: F.layer_norm(x, [8, 8], eps=0.1),
    ),
    "native_layer_norm of torch": (
        lambda x: torch.native_layer_norm(x, [8, 8], None, None, 0.1)[0],
        lambda x: F.layer_norm(x, [8, 8], eps=0.1),
    ),
    "statistics of a layer norm": (
        lambda x: torch.cat(
            [s.expand(x.shape) for s in ATEN.native_layer_norm(x, [8], None, None, 0.1)[1:]], 1
        ),
        lambda x: torch.cat(
            [x.mean(-1, True), (x.var(-1, unbiased=False, keepdim=True) + 0.1).rsqrt()], 1
        ).repeat_interleave(8, -1),
    ),
    "native_group_norm": (
        lambda x: ATEN.native_group_norm(_layer(x), GAMMA, BETA, 2, 4, 36, 2, 0.1)[0],
        lambda x: F.group_norm(_layer(x), 2, GAMMA, BETA, 0.1),
    ),
    "upsample by factors": (
        lambda x: ATEN.upsample_bilinear2d.vec(_layer(x), None, False, [1.5, 2.0]),
        lambda x: F.interpolate(_layer(x), scale_factor=(1.5, 2.0), mode="bilinear"),
    ),
    "upsample to a size": (
        lambda x: ATEN.upsample_nearest2d(_layer(x), [9, 13]),
        lambda x: F.interpolate(_layer(x), (9, 13)),
    ),
    "max_pool2d_with_indices": (
        lambda x: ATEN.max_pool2d_with_indices.default(_layer(x), [2, 2])[0],
        lambda x: F.max_pool2d(_layer(x), 2),
    ),
    "slice": (
        lambda x: ATEN.slice.Tensor(_layer(x), -1, 1, 2**63 - 1, 2),
        lambda x: _layer(x)[..., 1::2],
    ),
    "index": (
        lambda x: ATEN.index.Tensor(_layer(x), [None, None, torch.tensor([0, 3, 5])]),
        lambda x: _layer(x)[:, :, [0, 3, 5]],
    ),
    "index_put": (
        lambda x: ATEN.index_put.default(
            _layer(x), [None, None, torch.tensor([0, 3])], x[:, :1, :2, :6]
        ),
        lambda x: _with(_layer(x), x[:, :1, :2, :6]),
    ),
    "im2col": (
        lambda x: MATRIX[:, :36] @ ATEN.im2col(_layer(x), [3, 3], [1, 1], [0, 0], [1, 1]),
        lambda x: MATRIX[:, :36] @ F.unfold(_layer(x), 3),
    ),
    "col2im": (
        lambda x: ATEN.col2im.default(
            F.unfold(_layer(x), 2), [6, 6], [2, 2], [1, 1], [0, 0], [1, 1]
        ).sin(),
        lambda x: F.fold(F.unfold(_layer(x), 2), 6, 2).sin(),
    ),
    "reflection_pad2d": (
        lambda x: _layer(ATEN.reflection_pad2d(x, [1, 1, 2, 2])),
        lambda x: _layer(F.pad(x, [1, 1, 2, 2], "reflect")),
    ),
    "constant_pad_nd": (
        lambda x: _layer(ATEN.constant_pad_nd(x, [1, 1, 2, 2], 0.5)),
        lambda x: _layer(F.pad(x, [1, 1, 2, 2], value=0.5)),
    ),
    "grid_sampler": (
        lambda x: ATEN.grid_sampler(_layer(x), GRID, 0, 0, False),
        lambda x: F.grid_sample(_layer(x), GRID, align_corners=False),
    ),
    "grid_sampler of torch": (
        lambda x: torch.grid_sampler(_layer(x), GRID, 0, 0, False),
        lambda x: F.grid_sample(_layer(x), GRID, align_corners=False),
    ),
    "in place": (
        lambda x: ATEN.add_.Tensor(F.conv2d(x, W, B), x[:, :1, 1:-1, 1:-1], alpha=2),
        lambda x: F.conv2d(x, W, B) + 2 * x[:, :1, 1:-1, 1:-1],
    ),
    "_softmax": (
        lambda x: ATEN._softmax.default(_layer(x), 1, False),
        lambda x: F.softmax(_layer(x), 1),
    ),
    "copies and views": (
        lambda x: ATEN._unsafe_view(
            ATEN.alias(ATEN._to_copy(_layer(x), dtype=torch.float64)), [2, 8, 18]
        ),
        lambda x: _layer(x).reshape(2, 8, 18),
    ),
}


@pytest.mark.parametrize(("native", "function"), PAIRS.values(), ids=PAIRS)
def test_a_native_function_has_the_map_of_the_function_of_torch(native, function):
    found, expected = (
        TGradAttribution(lambda x, form=form: _read(form(x))).decompose(X, target=1)
        for form in (native, function)
    )
    assert torch.equal(found.output, expected.output)
    assert [each.name for each in found] == [each.name for each in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.score, other.score, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(one.positive, other.positive, rtol=1e-10, atol=1e-12)


class _Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.encoder = nn.TransformerEncoderLayer(
            16, 2, 32, activation="gelu", batch_first=True, norm_first=True
        )
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        return self.head(self.encoder(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


NETWORKS = {
    "resnet18": torchvision.models.resnet18,
    "convnext_tiny": torchvision.models.convnext_tiny,
    "swin_t": torchvision.models.swin_t,
    "encoder": _Encoder,
}


@pytest.mark.parametrize(
    ("native", "function"),
    [
        (lambda z: ATEN.elu(z, 1.6732632423543772, 1.0507009873554805), F.selu),
        (lambda z: ATEN.elu.default(z, 2.0, 1.0, 0.5), lambda z: F.celu(z, 2.0)),
        (lambda z: ATEN.elu_(z.clone(), 2.0, 1.0, 0.5), lambda z: F.celu(z, 2.0)),
    ],
    ids=["selu", "celu", "celu in place"],
)
def test_an_elu_with_scales_has_the_maps_of_a_selu_and_a_celu(native, function):
    """As in exported programs whose activations are decomposed; also in later calls."""
    found, expected = (
        TGradAttribution(lambda x, each=each: _read(each(F.conv2d(x, W, B))))
        for each in (native, function)
    )
    for x in (X, X + 1, X - 1):
        maps, delta = found.attribute(x, target=1, return_convergence_delta=True)
        torch.testing.assert_close(maps, expected.attribute(x, target=1))
        torch.testing.assert_close(delta, torch.zeros_like(delta))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_an_exported_program_has_the_map_of_its_module(network):
    model, x = network().eval().double(), randn(2, 3, 32, 32)
    exported = torch.export.export(model, (x,)).module()
    found, expected = (TGradAttribution(each).attribute(x, target=1) for each in (exported, model))
    assert float(expected.max()) > 0
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10 * float(expected.max()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_program_exported_in_training_mode_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    exported = torch.export.export(model.double(), (X,)).module()
    with pytest.raises(ValueError, match="batch norm"):
        TGradAttribution(exported).attribute(X, target=1)


@pytest.mark.parametrize(
    "norm",
    [
        lambda z: ATEN._native_batch_norm_legit(z, GAMMA, BETA, MEAN, VARIANCE, True, 0.1, 1e-3)[0],
        lambda z: ATEN.native_batch_norm.default(z, GAMMA, BETA, None, None, True, 0.1, 1e-3)[0],
        lambda z: ATEN._batch_norm_with_update(z, GAMMA, BETA, MEAN, VARIANCE, 0.1, 1e-3)[0],
    ],
)
def test_a_native_batch_norm_in_training_mode_is_refused(norm):
    before = MEAN.clone()
    with pytest.raises(ValueError, match="batch norm"):
        TGradAttribution(lambda x: _read(norm(_layer(x)))).attribute(X[:1], target=1)
    assert torch.equal(MEAN, before)


@pytest.mark.parametrize("size", [2, 3])
def test_index_put_that_adds_has_the_map_of_a_fold(size):
    """As in a program whose fold is decomposed; the windows overlap if their size is 3."""
    starts = torch.arange(0, 7 - size, 2)
    at = starts + torch.arange(size)[:, None]

    def forward(x, fold):
        z = _layer(x)
        windows = z[:, :, at[:, :, None, None], at]
        return _read(fold(windows * windows.sigmoid()) + B[:, None, None])

    def by_index_put(windows):
        return ATEN.index_put.default(
            torch.zeros(2, 4, 6, 6).double(), [None, None, at[..., None, None], at], windows, True
        )

    def by_fold(windows):
        columns = windows.transpose(3, 4).reshape(2, 4 * size**2, -1)
        return F.fold(columns, 6, size, stride=2)

    assert_same_maps(partial(forward, fold=by_index_put), partial(forward, fold=by_fold), X, 1)


def test_an_index_that_selects_keeps_its_meaning():
    def forward(x):
        copy = ATEN.index(x * 1.0, [None, torch.tensor(1)])
        copy.mul_(3)
        return _read(copy)

    found = TGradAttribution(forward).decompose(X[:1], target=1)
    torch.testing.assert_close(found.output, forward(X[:1])[:, 1])


def test_another_librarys_function_is_not_taken_for_that_of_torch():
    @torch.library.custom_op("captum_tgrad_tests::relu", mutates_args=())
    def cube(z: torch.Tensor) -> torch.Tensor:
        return z**3

    cube.register_autograd(
        lambda context, gradient: gradient * 3 * context.saved_tensors[0] ** 2,
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    own = torch.ops.captum_tgrad_tests.relu
    for form in (own, own.default):
        found = TGradAttribution(lambda x, form=form: _read(form(x))).decompose(X, target=0)
        assert float(found.delta.abs().max()) < 1e-10
        # The bias of z^3 is -2 z^3.
        (term,) = [each for each in found if "relu" in each.name]
        weight = torch.linspace(0.5, 2, 192, dtype=torch.float64)
        expected = -2 * (X.flatten(1) ** 3 * weight).sum(1)
        torch.testing.assert_close(term.score, expected, rtol=1e-10, atol=1e-10)
