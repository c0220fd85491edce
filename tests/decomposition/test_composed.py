"""Operations that are short for several others have the maps of these, written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

SIZE, WIDTH = 8, 4


def _random(*shape, seed):
    return randn(*shape, seed=seed) * 0.3


KERNELS = [(_random(WIDTH, 3, 3, 3, seed=i), _random(WIDTH, seed=i + 5)) for i in range(3)]
LAST, HEAD = _random(WIDTH, WIDTH, 3, 3, seed=10), _random(WIDTH, 5, seed=11)
BIAS, OTHER, POSITIVE = _random(WIDTH, seed=12), _random(WIDTH, seed=13), torch.ones(WIDTH).double()
TABLE, CUBE = _random(SIZE, SIZE, seed=14), _random(WIDTH, WIDTH, WIDTH, seed=15)
PARAMETER = nn.Parameter(TABLE)
NUMBER = torch.tensor(0.7, dtype=torch.double)
ROWS = torch.linspace(0.2, 2, SIZE).double()[:, None] ** 2 * torch.linspace(0.5, 2, SIZE).double()


def _read(h):
    return (F.silu(F.conv2d(h, LAST, padding=1)) * ROWS).mean((2, 3)) @ HEAD


def _images(op):
    """``op`` takes three feature maps ``(N, WIDTH, SIZE, SIZE)``."""
    return lambda x: _read(op(*(F.silu(F.conv2d(x, k, b, padding=1)) for k, b in KERNELS)))


def _batches(op):
    """``op`` takes three batches of matrices ``(N * WIDTH, SIZE, SIZE)``."""
    return _images(lambda a, b, c: op(*(h.flatten(0, 1) for h in (a, b, c))).view_as(a))


def _matrices(op):
    """``op`` takes three matrices ``(SIZE, SIZE)``."""
    return _batches(lambda a, b, c: torch.stack([op(*each) for each in zip(a, b, c, strict=True)]))


def _tokens(op):
    """``op`` takes three times tokens ``(N, SIZE, SIZE, WIDTH)``."""
    return _images(lambda *each: op(*(h.movedim(1, 3) for h in each)).movedim(3, 1))


def _samples(op):
    """``op`` takes the feature maps of one sample and weights that depend on it."""

    def each(a, b, c):
        weights, scales = b[..., :WIDTH, 0].mean(0), 1 + c.mean((0, 2, 3))
        return op(a, weights, scales)

    return _images(
        lambda a, b, c: torch.cat(
            [each(*one) for one in zip(a.split(1), b.split(1), c.split(1), strict=True)]
        )
    )


def _last(op):
    return _samples(lambda h, *weights: op(h.movedim(1, 3), *weights).movedim(3, 1))


def _copies(tensor, like):
    return tensor.expand(len(like), -1, -1).clone()


def _nan(*shape):
    return torch.full(shape, math.nan).double()


def _own(values):
    return values[:, None, None]


def _on_the_diagonal(first, last):
    whole = first.new_zeros(SIZE, SIZE)
    whole[:3, :5], whole[3:, 5:] = first, last
    return whole


def _grid(rows, columns):
    return rows[:, None].expand(SIZE, SIZE), columns.expand(SIZE, SIZE)


def _at_least(h, size):
    """Divided by the norm, or by ``size`` if that is larger, with the gradient of the norm."""
    norm = torch.linalg.vector_norm(h, dim=1, keepdim=True)
    return h / (norm + (size - norm.detach()).clamp_min(0))


def _twice_differed(rows):
    rows = rows[1:] - rows[:-1]
    return rows[1:] - rows[:-1]


FUSED = {
    "baddbmm": (
        _batches(lambda a, b, c: torch.baddbmm(TABLE[None], b, c, beta=0.5, alpha=2)),
        _batches(lambda a, b, c: 0.5 * TABLE + 2 * (b @ c)),
    ),
    "baddbmm by names": (
        _batches(lambda a, b, c: TABLE[None].baddbmm(batch1=b, batch2=c, alpha=2)),
        _batches(lambda a, b, c: TABLE + 2 * (b @ c)),
    ),
    "baddbmm of three": (
        _batches(lambda a, b, c: torch.baddbmm(a, b, c, beta=0.5)),
        _batches(lambda a, b, c: 0.5 * a + b @ c),
    ),
    "baddbmm of nothing": (
        _batches(lambda a, b, c: torch.baddbmm(_nan(1, 1, SIZE), b, c, beta=0, alpha=2)),
        _batches(lambda a, b, c: 2 * (b @ c)),
    ),
    "baddbmm in place": (
        _batches(lambda a, b, c: _copies(TABLE, b).baddbmm_(b, c, beta=0.5, alpha=2)),
        _batches(lambda a, b, c: 0.5 * TABLE + 2 * (b @ c)),
    ),
    "baddbmm in place of a parameter": (
        _batches(lambda a, b, c: _copies(PARAMETER, b).baddbmm_(b, c)),
        _batches(lambda a, b, c: TABLE + b @ c),
    ),
    "baddbmm in place of nothing": (
        _batches(lambda a, b, c: _copies(_nan(SIZE, SIZE), b).baddbmm_(b, c, beta=0)),
        _batches(lambda a, b, c: b @ c),
    ),
    "native baddbmm": (
        _batches(lambda a, b, c: torch.ops.aten.baddbmm.default(TABLE[None], b, c)),
        _batches(lambda a, b, c: TABLE + b @ c),
    ),
    "addbmm": (
        _matrices(lambda a, b, c: torch.addbmm(a, b.view(2, -1, 8).mT, c.view(2, -1, 8), alpha=2)),
        _matrices(lambda a, b, c: a + 2 * (b.view(2, -1, 8).mT @ c.view(2, -1, 8)).sum(0)),
    ),
    "addmm": (
        _matrices(lambda a, b, c: torch.addmm(TABLE, b, c, beta=0.5, alpha=2)),
        _matrices(lambda a, b, c: 0.5 * TABLE + 2 * (b @ c)),
    ),
    "addmm in place": (
        _matrices(lambda a, b, c: a.clone().addmm_(b, a + 1, beta=0.5)),
        _matrices(lambda a, b, c: 0.5 * a + b @ (a + 1)),
    ),
    "addmv": (
        _matrices(lambda a, b, c: a * torch.addmv(TABLE[0], b, c[0], alpha=2)),
        _matrices(lambda a, b, c: a * (TABLE[0] + 2 * (b @ c[0]))),
    ),
    "addr": (
        _matrices(lambda a, b, c: torch.addr(TABLE, b[0], c[0], beta=0.5)),
        _matrices(lambda a, b, c: 0.5 * TABLE + b[0][:, None] * c[0]),
    ),
    "addcmul": (
        _images(lambda a, b, c: torch.addcmul(NUMBER, b, c, value=2)),
        _images(lambda a, b, c: 0.7 + 2 * (b * c)),
    ),
    "addcmul in place of a view": (
        _images(lambda a, b, c: (a := a.clone(), a[:, :2].addcmul_(b[:, :2], c[:, :2]))[0]),
        _images(lambda a, b, c: torch.cat([a[:, :2] + b[:, :2] * c[:, :2], a[:, 2:]], 1)),
    ),
    "addcdiv": (
        _images(lambda a, b, c: torch.addcdiv(NUMBER, NUMBER, c + 3, value=2)),
        _images(lambda a, b, c: 0.7 + 2 * (0.7 / (c + 3))),
    ),
    "lerp": (
        _images(lambda a, b, c: torch.lerp(NUMBER, b, c)),
        _images(lambda a, b, c: 0.7 + c * (b - 0.7)),
    ),
    "multi_dot": (
        _matrices(lambda a, b, c: torch.linalg.multi_dot([a, b, c])),
        _matrices(lambda a, b, c: a @ b @ c),
    ),
    "linalg.matmul": (
        _matrices(lambda a, b, c: torch.linalg.matmul(a, b)),
        _matrices(lambda a, b, c: a @ b),
    ),
    "kron": (
        _matrices(lambda a, b, c: torch.kron(a[:2, :4], b[0, :2]).repeat(4, 1)),
        _matrices(lambda a, b, c: (a[:2, :4, None] * b[0, :2]).flatten(1).repeat(4, 1)),
    ),
    "meshgrid": (
        _matrices(lambda a, b, c: a * sum(torch.meshgrid(b[0], c[1], indexing="ij"))),
        _matrices(lambda a, b, c: a * (b[0][:, None].expand(SIZE, SIZE) + c[1].expand(SIZE, SIZE))),
    ),
    "bilinear": (
        _tokens(lambda a, b, c: F.bilinear(a, b, CUBE, BIAS)),
        _tokens(lambda a, b, c: torch.einsum("nhwi,oij,nhwj->nhwo", a, CUBE, b) + BIAS),
    ),
    "cdist": (
        _batches(lambda a, b, c: torch.cdist(b, c)),
        _batches(lambda a, b, c: torch.linalg.vector_norm(b[:, :, None] - c[:, None], dim=3)),
    ),
    "block_diag": (
        _matrices(lambda a, b, c: torch.block_diag(a[:3, :5], b[:5, :3])),
        _matrices(lambda a, b, c: _on_the_diagonal(a[:3, :5], b[:5, :3])),
    ),
    "cartesian_prod": (
        _matrices(lambda a, b, c: torch.cartesian_prod(b[0], c[0]).prod(1).view(SIZE, SIZE)),
        _matrices(lambda a, b, c: torch.stack([*_grid(b[0], c[0])], 2).prod(2)),
    ),
    "linear": (
        _last(lambda t, weights, scales: F.linear(t, weights, BIAS)),
        _last(lambda t, weights, scales: t @ weights.T + BIAS),
    ),
    "conv2d": (
        _samples(lambda h, weights, scales: F.conv2d(h, weights[..., None, None], BIAS)),
        _samples(lambda h, weights, scales: torch.einsum("nchw,dc->ndhw", h, weights) + _own(BIAS)),
    ),
    "batch_norm": (
        _samples(lambda h, weights, scales: F.batch_norm(h, BIAS, POSITIVE, scales, OTHER)),
        _samples(
            lambda h, weights, scales: F.batch_norm(h, BIAS, POSITIVE) * _own(scales) + _own(OTHER)
        ),
    ),
    "group_norm": (
        _samples(lambda h, weights, scales: F.group_norm(h, 2, scales, OTHER)),
        _samples(lambda h, weights, scales: F.group_norm(h, 2) * _own(scales) + _own(OTHER)),
    ),
    "layer_norm": (
        _last(lambda t, weights, scales: F.layer_norm(t, [WIDTH], scales, bias=OTHER)),
        _last(lambda t, weights, scales: F.layer_norm(t, [WIDTH]) * scales + OTHER),
    ),
    "rms_norm": (
        _last(lambda t, weights, scales: F.rms_norm(t, [WIDTH], scales, eps=1e-5)),
        _last(lambda t, weights, scales: F.rms_norm(t, [WIDTH], eps=1e-5) * scales),
    ),
    "layer_norm of a constant": (
        _matrices(lambda a, b, c: a * F.layer_norm(TABLE, [SIZE], b[0], c[0])),
        _matrices(lambda a, b, c: a * (F.layer_norm(TABLE, [SIZE]) * b[0] + c[0])),
    ),
    "group_norm of a constant": (
        _matrices(lambda a, b, c: a * F.group_norm(TABLE, 2, bias=b[0])),
        _matrices(lambda a, b, c: a * (F.group_norm(TABLE, 2) + b[0])),
    ),
    "batch_norm of a constant": (
        _matrices(lambda a, b, c: a * F.batch_norm(TABLE, TABLE[0], TABLE[1].abs(), b[0])),
        _matrices(lambda a, b, c: a * F.batch_norm(TABLE, TABLE[0], TABLE[1].abs()) * b[0]),
    ),
    "linear of a constant": (
        _matrices(lambda a, b, c: a * F.linear(TABLE, TABLE, b[0])),
        _matrices(lambda a, b, c: a * (TABLE @ TABLE.T + b[0])),
    ),
    "conv1d of a constant": (
        _matrices(lambda a, b, c: a * F.conv1d(TABLE, TABLE[..., None], b[0])),
        _matrices(lambda a, b, c: a * (TABLE @ TABLE + b[0][:, None])),
    ),
    "cosine_similarity": (
        _images(lambda a, b, c: a * F.cosine_similarity(b, c)[:, None]),
        _images(lambda a, b, c: a * (F.normalize(b) * F.normalize(c)).sum(1, keepdim=True)),
    ),
    "cosine_similarity to a constant": (
        _images(lambda a, b, c: a * F.cosine_similarity(BIAS[:, None, None], b, dim=-3)[:, None]),
        _images(
            lambda a, b, c: a * (_own(F.normalize(BIAS, dim=0)) * F.normalize(b)).sum(1)[:, None]
        ),
    ),
    "cosine_similarity of small vectors": (
        _images(lambda a, b, c: a * F.cosine_similarity(b, c, eps=1e3)[:, None]),
        _images(lambda a, b, c: a * (_at_least(b, 1e3) * _at_least(c, 1e3)).sum(1)[:, None]),
    ),
    "diff": (
        _matrices(lambda a, b, c: a.diff(2, 0, prepend=b[:1], append=TABLE[:1]).square()),
        _matrices(lambda a, b, c: _twice_differed(torch.cat([b[:1], a, TABLE[:1]])).square()),
    ),
}


@pytest.mark.parametrize(("fused", "composed"), FUSED.values(), ids=FUSED)
def test_map_is_that_of_its_parts(fused, composed):
    x = torch.rand(2, 3, SIZE, SIZE).double()
    assert_same_maps(fused, composed, x, 1, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_keeps_the_type(dtype):
    found = []

    def network(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = torch.baddbmm(torch.ones(1, 4, 4), x.to(dtype), x.to(dtype).mT)
        found.append(result.dtype)
        return result.float().sum((1, 2))

    x = torch.rand(2, 4, 4)
    network(x)
    TGradAttribution(network).attribute(x)
    assert set(found) == {torch.bfloat16}


def test_without_gradients_it_writes_where_it_is_told():
    out = torch.zeros(2, 4, 4).double()

    def network(x):
        with torch.no_grad():
            torch.baddbmm(x, x, x, out=out)
        return x.sum((1, 2))

    x = torch.rand(2, 4, 4).double()
    TGradAttribution(network).attribute(x)
    torch.testing.assert_close(out, x + x @ x)
