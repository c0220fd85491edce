"""Copies of elements are a finer grid, and the channels of one element are not.

A reshape writes both in the same way, and only what follows tells them apart. Each test writes a
network in several ways and compares the maps.
"""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.decomposition.checks import assert_as_alone, assert_same_maps, filled, randn

WIDTH, STEPS, HEADS = 6, 16, 2


# Enlarging an image by 2.


def _repeated(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


def _expanded(h):
    n, c, rows, columns = h.shape
    return h[:, :, :, None, :, None].expand(n, c, rows, 2, columns, 2).reshape(n, c, 2 * rows, -1)


def _indexed(h):
    return h[:, :, torch.arange(2 * h.shape[2]) // 2][..., torch.arange(2 * h.shape[3]) // 2]


def _multiplied(h):
    rows, columns = (torch.eye(n).double().repeat_interleave(2, 0) for n in h.shape[2:])
    return torch.einsum("ai,bj,ncij->ncab", rows, columns, h)


def _stacked(h):
    h = torch.stack([h, h], 3).flatten(2, 3)
    return torch.stack([h, h], 4).flatten(3)


def _shuffled(h):
    return F.pixel_shuffle(h.repeat_interleave(4, 1), 2)


def _shuffled_by_reshape(h):
    n, c, rows, columns = h.shape
    split = h.repeat_interleave(4, 1).reshape(n, c, 2, 2, rows, columns)
    return split.permute(0, 1, 4, 2, 5, 3).reshape(n, c, 2 * rows, 2 * columns)


def _written(h):
    n, c, rows, columns = h.shape
    result = h.new_zeros(n, c, 2 * rows, 2 * columns)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        result[:, :, i::2, j::2] = h
    return result


ENLARGED = [
    _repeated, _expanded, _indexed, _multiplied, _stacked, _shuffled, _shuffled_by_reshape, _written
]  # fmt: skip

DOWN = filled(nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), seed=1)
SKIP = filled(nn.Conv2d(3, WIDTH, 3, padding=1), seed=3)
LAST = filled(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), seed=5)
OF_BOTH = filled(nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1), seed=7)
UNPADDED = filled(nn.Conv2d(WIDTH, WIDTH, 3), seed=9)
NORM = filled(nn.GroupNorm(2, 2 * WIDTH), seed=11)
HEAD = randn(WIDTH, 5, seed=13)
IMAGES = randn(2, 3, 16, 16, seed=15)
ORDER = torch.eye(16).double()[randn(16, seed=14).argsort()]


def _in_windows(h):
    n, c, rows, columns = h.shape
    split = h.reshape(n, c, rows // 4, 4, columns // 4, 4).permute(0, 2, 4, 3, 5, 1)
    tokens = split.reshape(-1, 16, c)
    tokens = F.gelu(tokens) + F.scaled_dot_product_attention(tokens, tokens, tokens)
    tokens = tokens.reshape(n, rows // 4, columns // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
    return LAST(tokens.reshape(h.shape))


def _in_rows(h):
    rows = h.permute(0, 2, 3, 1).flatten(0, 1)
    rows = F.gelu(rows) + F.scaled_dot_product_attention(rows, rows, rows)
    return LAST(rows.view(h.shape[0], *h.shape[2:], -1).permute(0, 3, 1, 2))


USES = {
    "convolution": lambda up, _: LAST(up),
    "activation": lambda up, _: LAST(F.gelu(up)),
    "residual": lambda up, skip: LAST(F.gelu(up + skip)),
    "gate": lambda up, skip: LAST(F.gelu(up * skip.sigmoid())),
    "concatenation": lambda up, skip: OF_BOTH(NORM(torch.cat([up, skip], 1))),
    "choice": lambda up, skip: LAST(torch.where(skip > 0, up, skip)),
    "padding": lambda up, _: UNPADDED(F.gelu(F.pad(up, [1] * 4))),
    "reflection": lambda up, _: UNPADDED(F.gelu(F.pad(up, [1] * 4, "reflect"))),
    "crop": lambda up, _: LAST(F.gelu(up[:, :, 1:, 3:-1])),
    "every second": lambda up, _: LAST(F.gelu(up[:, :, ::2, 1::2])),
    "roll": lambda up, _: LAST(F.gelu(up.roll((1, 1), (2, 3)))),
    "pooling": lambda up, _: LAST(F.gelu(F.max_pool2d(up, 3, 2, 1))),
    "running sum": lambda up, _: LAST(F.gelu(up.cumsum(3) / 16)),
    "windows": lambda up, _: _in_windows(up),
    "rows": lambda up, _: _in_rows(up),
    "tokens": lambda up, _: LAST(F.gelu(up.flatten(2)).view_as(up)),
    "patches": lambda up, _: F.fold(F.gelu(F.unfold(up, 3)), up.shape[2:], 3),
    "permutation": lambda up, _: LAST(F.gelu(up @ ORDER)),
    "map": lambda up, _: up,
}


@pytest.mark.parametrize("enlarge", ENLARGED)
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_enlarged_image_has_the_map_of_interpolation(use, enlarge):
    def network(enlarge):
        return lambda x: F.gelu(use(enlarge(F.relu(DOWN(x))), SKIP(x))).mean((2, 3)) @ HEAD

    interpolated = network(partial(F.interpolate, scale_factor=2))
    assert_same_maps(network(enlarge), interpolated, IMAGES, 1)


# Inserting zeros between pixels: parts of a transposed convolution.


def _enlarging(enlarge):
    return lambda x: F.gelu(LAST(F.gelu(enlarge(F.relu(DOWN(x)))))).mean((2, 3)) @ HEAD


def _written_into_zeros(h):
    n, c, rows, columns = h.shape
    result = h.new_zeros(n, c, 2 * rows, 2 * columns)
    result[:, :, ::2, ::2] = h
    return result


def _stacked_with_zeros(h):
    h = torch.stack([h, torch.zeros_like(h)], 3).flatten(2, 3)
    return torch.stack([h, torch.zeros_like(h)], 4).flatten(3)


def _masked(h):
    mask = torch.zeros(2, 2).double()
    mask[0, 0] = 1
    return _repeated(h) * mask.repeat(*h.shape[2:])


@pytest.mark.parametrize("insert", [_written_into_zeros, _stacked_with_zeros, _masked])
def test_a_convolution_of_inserted_zeros_has_the_map_of_a_transposed_one(insert):
    def transposed(h):
        options = {"stride": 2, "padding": 1, "output_padding": 1}
        return F.conv_transpose2d(h, LAST.weight.flip(2, 3).transpose(0, 1), **options)

    inserted = _enlarging(lambda h: F.conv2d(insert(h), LAST.weight, padding=1))
    assert_same_maps(inserted, _enlarging(transposed), IMAGES, 1)


@pytest.mark.parametrize(("size", "padding"), [(2, 0), (3, 1), (4, 0), (4, 1), (5, 2)])
def test_blocks_that_are_folded_have_the_map_of_a_transposed_convolution(size, padding):
    kernel = randn(WIDTH, WIDTH, size, size, seed=20) * 0.3
    side = 14 - 2 * padding + size

    def folded(h):
        blocks = kernel.flatten(1).T @ h.flatten(2)
        return F.fold(blocks, (side, side), size, stride=2, padding=padding)

    transposed = partial(F.conv_transpose2d, weight=kernel, stride=2, padding=padding)
    assert_same_maps(_enlarging(folded), _enlarging(transposed), IMAGES, 1)


@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(1, 2, 2), (2, 1, 3), (2, 2, 1), (3, 1, 1), (4, 1, 3)]
)
def test_padded_blocks_have_the_map_of_a_padded_convolution(size, padding, stride):
    kernel = randn(WIDTH, 3, size, size, seed=22) * 0.3

    def blocks(x):
        return (kernel.flatten(1) @ F.unfold(x, size, padding=padding, stride=stride)).mT

    def convolved(x):
        return F.conv2d(x, kernel, padding=padding, stride=stride).flatten(2).mT

    networks = (lambda x, h=h: F.gelu(h(x)).mean(1) @ HEAD for h in (blocks, convolved))
    assert_same_maps(*networks, IMAGES[..., :8, :8], 1)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("zeros_behind", [0, 1])
def test_zeros_between_pixels_alone_or_behind_each(zeros_behind, padding):
    kernel = randn(WIDTH, WIDTH, 4, 4, seed=18) * 0.3

    def inserted(h):
        n, c, rows, columns = h.shape
        result = h.new_zeros(n, c, 2 * rows - 1 + zeros_behind, 2 * columns - 1 + zeros_behind)
        result[:, :, ::2, ::2] = h
        # The zeros behind the last pixels are as good as padding.
        ends = (3 - padding, 3 - padding - zeros_behind) * 2
        return F.conv2d(F.pad(result, ends), kernel.flip(2, 3).transpose(0, 1))

    transposed = partial(F.conv_transpose2d, weight=kernel, stride=2, padding=padding)
    assert_same_maps(_enlarging(inserted), _enlarging(transposed), IMAGES, 1)


def test_pixels_that_are_written_at_their_own_position_are_those_of_a_mask():
    mask = torch.zeros(16, 16).double()
    mask[::2, ::2] = 1

    def written(h):
        result = torch.zeros_like(h)
        result[:, :, ::2, ::2] = h[:, :, ::2, ::2]
        return result

    def network(choose):
        return lambda x: F.gelu(LAST(choose(F.gelu(SKIP(x))))).mean((2, 3)) @ HEAD

    assert_same_maps(network(written), network(lambda h: h * mask), IMAGES, 1)


# Scores of relative positions: element (i, j) is that of position j - i. The argument has the
# scores of each query with all positions, shape (N, heads, steps, 2 * steps - 1).


def _gathered(scores):
    steps = torch.arange(STEPS)
    return scores.gather(3, (steps - steps[:, None] + STEPS - 1).expand(*scores.shape[:3], STEPS))


def _flattened(scores):
    """As Bello et al. (2019) and BoTNet: pad, flatten, pad, split into rows of another length."""
    flat = F.pad(F.pad(scores, (0, 1)).flatten(2), (0, STEPS - 1))
    return flat.unflatten(2, (STEPS + 1, 2 * STEPS - 1))[:, :, :STEPS, STEPS - 1 :]


def _flattened_with_heads(scores):
    return _flattened(scores.flatten(0, 1)[:, None])[:, 0].unflatten(0, (-1, HEADS))


def _split_again(scores):
    """As the Conformer: a column in front, rows of another length, without the first."""
    wide = torch.cat([torch.zeros_like(scores[..., :1]), scores], 3)
    return wide.view(*scores.shape[:2], 2 * STEPS, STEPS)[:, :, 1:].view_as(scores)[..., :STEPS]


def _split_again_steps_first(scores):
    """As Transformer-XL, whose steps are the first dimension."""
    scores = scores.permute(2, 3, 0, 1)
    wide = torch.cat([torch.zeros_like(scores[:, :1]), scores], 1)
    wide = wide.reshape(2 * STEPS, STEPS, *scores.shape[2:])[1:].view_as(scores)
    return wide[:, :STEPS].permute(2, 3, 0, 1)


def _by_rows(scores):
    rows = (scores[:, :, i, STEPS - 1 - i : 2 * STEPS - 1 - i] for i in range(STEPS))
    return torch.stack(list(rows), 2)


SIGNAL = filled(nn.Conv1d(3, 8, 4, stride=2, padding=1), seed=21)
QKV = filled(nn.Linear(8, 24), seed=23)
POSITIONS = randn(2 * STEPS - 1, 4, seed=25) * 0.3
SIGNALS = randn(2, 3, 2 * STEPS, seed=29)
OUT = filled(nn.Conv1d(8, 8, 3, padding=1), seed=27)


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(
    "shift", [_flattened, _flattened_with_heads, _split_again, _split_again_steps_first, _by_rows]
)
def test_relative_positions_have_the_map_of_indices(shift, n):
    def forward(x, shift):
        h = F.relu(SIGNAL(x)).mT
        q, k, v = (t.unflatten(2, (HEADS, 4)).transpose(1, 2) for t in QKV(h).chunk(3, 2))
        weights = (q @ k.mT + shift(q @ POSITIONS.T)).softmax(3)
        h = h + (weights @ v).transpose(1, 2).flatten(2)
        return F.gelu(OUT(h.mT)).mean(2)

    forms = (partial(forward, shift=each) for each in (shift, _gathered))
    assert_same_maps(*forms, SIGNALS[:n], 1)


@pytest.mark.parametrize("n", [1, 2])
def test_tokens_that_are_flattened_with_their_channels_are_no_finer_grid(n):
    layer = filled(nn.Linear(8 * STEPS, 5), seed=31)
    assert_same_maps(
        lambda x: layer(F.gelu(SIGNAL(x).mT.flatten(1))),
        lambda x: layer(F.gelu(SIGNAL(x).mT).flatten(1)),
        SIGNALS[:n],
        1,
    )


# Attention along the columns and along the rows of an image. Dimension 0 holds heads and rows.
ATTENTIONS = [
    filled(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), seed=21 + 2 * number)
    for number in range(2)
]
OF_PATCHES = filled(nn.Conv2d(3, WIDTH, 4, stride=4), seed=25)


def _by_torch(attention, h):
    return attention(h, h, h, need_weights=False)[0]


def _tokens_first(attention, h):
    h = h.transpose(0, 1)
    weights = (attention.in_proj_weight, attention.in_proj_bias, None, None, False, 0.0)
    last = attention.out_proj.weight, attention.out_proj.bias
    attended, _ = F.multi_head_attention_forward(
        h, h, h, WIDTH, HEADS, *weights, *last, training=False, need_weights=False
    )
    return attended.transpose(0, 1)


def _heads_apart(attention, h):
    parts = F.linear(h, attention.in_proj_weight, attention.in_proj_bias).chunk(3, -1)
    parts = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in parts)
    attended = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
    return F.linear(attended, attention.out_proj.weight, attention.out_proj.bias)


def _axial(images, attend):
    h = OF_PATCHES(images).movedim(1, -1)
    for attention in ATTENTIONS:
        h = (h + attend(attention, h.flatten(0, 1)).view_as(h)).transpose(1, 2)
    return F.gelu(h).mean((1, 2))


@pytest.mark.parametrize("attend", [_by_torch, _tokens_first])
def test_heads_of_rows_are_no_parts_of_their_cells(attend):
    images = randn(2, 3, 32, 24, seed=27)
    forward, apart = (partial(_axial, attend=each) for each in (attend, _heads_apart))
    for each in (images, images[:1], images[1:]):
        assert_same_maps(forward, apart, each, 1)
    assert_as_alone(forward, images, target=1)
