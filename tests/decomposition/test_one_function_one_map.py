"""One function, one map: a network written otherwise has the map of its plain form.

Each row names what is written differently. Both forms compute the same numbers, and their nonlinear
operations are the same ones; what differs is how the elements get there.
"""

import math
from collections import namedtuple
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
import torchvision.transforms.functional as TF
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, filled, randn

SIZE, PATCH, WINDOW = 24, 4, 3
GRID = SIZE // PATCH  # patches beside each other
WIDTH, HEADS, TARGET = 8, 2, 1
EXACT, CUT = 1e-6, 0.1
SAME = nn.Identity()


def _random(*shape, seed):
    return randn(*shape, seed=seed) * 0.3


def _picture(n):
    """Pixels that float32 holds without rounding."""
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(n)).double()


def _weighted(h):
    """No two places count alike."""
    rows = torch.linspace(0, 2, h.shape[2], dtype=h.dtype)[:, None]
    return h * rows**2 * torch.linspace(0.5, 2, h.shape[3], dtype=h.dtype)


def _read(h):
    return _weighted(h).mean((2, 3)) @ HEAD


class Net(nn.Module):
    def __init__(self, stride=2, padding=1):
        super().__init__()
        self.a = nn.Conv2d(3, 6, 3, padding=padding)
        self.b = nn.Conv2d(6, WIDTH, 3, stride=stride, padding=1)
        self.c = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x):
        return _read(F.silu(self.c(F.relu(self.b(F.relu(self.a(x)))))))


NET, FINE_NET, OTHER_NET = filled(Net()), filled(Net(stride=1)), filled(Net(), seed=40)
BGR_NET, UNPADDED_NET, FOLDED_NET = filled(Net()), *(filled(Net(padding=0)) for _ in range(2))
BGR_NET.a.weight.data = NET.a.weight.data.flip(1)
MEANS, STDS = torch.tensor([[0.5, 0.4, 0.3], [0.2, 0.3, 0.25]]).double()
MEAN, STD = MEANS[:, None, None], STDS[:, None, None]
FOLDED_NET.a.weight.data /= STD
FOLDED_NET.a.bias.data -= (FOLDED_NET.a.weight.data * MEAN).sum((1, 2, 3))
STEM = filled(nn.Conv2d(3, WIDTH, 3, padding=1), seed=10)
COARSE_STEM = filled(nn.Conv2d(3, WIDTH, 3, stride=2, padding=1), seed=12)
LAST = filled(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), seed=14)
NORM = filled(nn.LayerNorm(WIDTH), seed=24)
MODULE_TOKENS_FIRST = filled(nn.MultiheadAttention(WIDTH, HEADS), seed=26)
MODULE = filled(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), seed=26)
HEAD, BIAS = _random(WIDTH, 5, seed=50), _random(WIDTH, 1, 1, seed=51)
KERNEL, DEPTH = _random(WIDTH, 3, 3, 3, seed=52), _random(WIDTH, 1, 3, 3, seed=53)
EVEN = _random(WIDTH, 3, 4, 4, seed=56)
ROWS, TAPS, TURNED = KERNEL.flatten(1), KERNEL[..., None, None], KERNEL.flip(2, 3).transpose(0, 1)
MIX, ONES = _random(WIDTH, WIDTH, seed=54), torch.ones(WIDTH, 1, 2, 2).double()
HALVES = torch.eye(SIZE // 2).double().repeat_interleave(2, 1)
SHUFFLE = torch.eye((SIZE // 2) ** 2).double()[_random((SIZE // 2) ** 2, seed=55).argsort()]
POINTWISE, OF_ROWS = MIX[..., None, None], BIAS.flatten()
PATCHES, HALVING = _random(WIDTH, 3, PATCH, PATCH, seed=55), _random(WIDTH, 3, 2, 2, seed=56)
PATCH_ROWS, HALVING_MIX = PATCHES.flatten(1), HALVING.flatten(1)[..., None, None]
PROJECTED = partial(F.linear, weight=MODULE.in_proj_weight, bias=MODULE.in_proj_bias)
FUSED = F.scaled_dot_product_attention


def _within(op, before=SAME, after=SAME):
    return lambda x: _read(F.silu(LAST(after(op(before(x))))))


def _into(network):
    return lambda op: lambda x: network(op(x))


def _tokens(h):
    return h.flatten(2).transpose(1, 2)


def _grid(tokens):
    return tokens.transpose(1, 2).unflatten(2, (math.isqrt(tokens.shape[1]), -1))


def _with_a_mask(op):
    def masked(h):
        mask = torch.rand(len(h), SIZE, SIZE, generator=torch.Generator().manual_seed(3)) > 0.5
        return op(h.permute(0, 2, 3, 1), mask).permute(0, 3, 1, 2)

    return BETWEEN(masked)


def _before_the_head(op):
    return lambda x: op(_weighted(F.silu(LAST(F.silu(STEM(x)))))) @ HEAD


FIRST = partial(_within, after=lambda h: F.silu(h + BIAS))
BETWEEN = partial(_within, before=STEM)
ACTIVATED = partial(FIRST, before=lambda x: F.silu(STEM(x)))
COARSE_ACTIVATED = partial(FIRST, before=lambda x: F.silu(COARSE_STEM(x)))
ON_TOKENS = partial(_within, before=lambda x: _tokens(F.silu(STEM(x))), after=_grid)
PATCHED = partial(_within, after=lambda t: F.gelu(_grid(NORM(t + OF_ROWS))))
ATTENDING = partial(PATCHED, before=lambda x: _tokens(F.conv2d(x, PATCHES, OF_ROWS, PATCH)))


# ``other(x)`` is ``plain(move(x))``; ``back`` moves a map of ``move(x)`` to ``x``.
Pair = namedtuple("Pair", "plain other move back limit")


def _written(plain, within=SAME, move=SAME, back=None, limit=EXACT):
    plain = within(plain)

    def pairs(**others):
        return [
            pytest.param(Pair(plain, within(other), move, back or move, limit), id=name)
            for name, other in others.items()
        ]

    return pairs


BACKWARDS, ROLLED = torch.arange(SIZE).flip(0), torch.arange(-5, SIZE - 5) % SIZE
DOUBLED, MIDDLE = torch.arange(SIZE) // 2, torch.arange(3, 21)
REFLECTED = [1, *range(SIZE), SIZE - 2]
INNER, AROUND = (..., slice(3, 21), slice(4, 20)), (1, 1, 1, 1)
FULL = (-1, WIDTH, SIZE, SIZE)
ROLL, ROLL_BACK = (partial(torch.roll, shifts=(3 * i, 5 * i), dims=(2, 3)) for i in (1, -1))
BOX, GRAY = partial(F.pad, pad=(4, 4, 3, 3)), torch.full((3, 3, SIZE, SIZE + 8), 0.5).double()
CLEAR = partial(torch.mul, BOX(torch.ones(18, 16).double()))
UNCLEARED = torch.tensor([*range(8), *range(12, SIZE)])


def _set(canvas, where, values):
    canvas[where] = values
    return canvas


def _partition(h):
    n, c, height, width = h.shape
    h = h.permute(0, 2, 3, 1).reshape(n, height // WINDOW, WINDOW, width // WINDOW, WINDOW, c)
    return h.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW, WINDOW, c)


def _reverse(windows, n, size):
    h = windows.reshape(n, size // WINDOW, size // WINDOW, WINDOW, WINDOW, WIDTH)
    return h.permute(0, 5, 1, 3, 2, 4).reshape(n, WIDTH, size, size)


def _in_windows(h):
    return _reverse(F.silu(_partition(h)), len(h), h.shape[2])


def _order(tokens):
    """A permutation for each sample, and its inverse."""
    noise = torch.rand(tokens.shape[:2], generator=torch.Generator().manual_seed(1))
    return noise.argsort(1), noise.argsort(1).argsort(1)


def _taken(tokens, order):
    return tokens.gather(1, order[..., None].expand(-1, -1, tokens.shape[2]))


def _shuffled(op, tokens):
    order, inverse = _order(tokens)
    return _taken(op(_taken(tokens, order)), inverse)


def _with_a_class_token(op, tokens):
    return op(torch.cat([tokens.new_zeros(len(tokens), 1, WIDTH), tokens], 1))[:, 1:]


def _mixed(tokens):
    return F.silu(F.linear(tokens, MIX, OF_ROWS))


def _quarter_padded_and_restored(tokens):
    order, inverse = _order(tokens)
    kept = _mixed(_taken(tokens, order[:, : SIZE**2 // 4]))
    return _taken(F.pad(kept, (0, 0, 0, SIZE**2 * 3 // 4)), inverse)


def _by_shifts(tap, x, pad=1, stride=1, dilation=1):
    x = F.pad(x, [pad] * 4)
    size = x.shape[2] - 2 * dilation
    rows = [x[:, :, i * dilation :][:, :, :size:stride] for i in range(3)]
    parts = [[row[..., j * dilation :][..., :size:stride] for j in range(3)] for row in rows]
    return sum(tap(part, i, j) for i, row in enumerate(parts) for j, part in enumerate(row))


def _shifted_taps(x, **options):
    return _by_shifts(lambda part, i, j: F.conv2d(part, TAPS[:, :, i, j]), x, **options)


def _filled_up(x, by, dim):
    """The image moved, with zeros in place of what left it."""
    zeros, kept = x.narrow(dim, 0, abs(by)) * 0, x.narrow(dim, max(-by, 0), SIZE - abs(by))
    return torch.cat([zeros.detach(), kept] if by > 0 else [kept, zeros.detach()], dim)


def _shift_matrix(by):
    return torch.diag(torch.ones(SIZE - abs(by)), -by).double()


def _summed_taps(move, x, center=1, dilation=1):
    """``move`` takes the image and how far a kernel's tap moves its rows and columns."""
    taps = [(i, j) for i in range(3) for j in range(3)]
    moved = {(i, j): move(x, dilation * (center - i), dilation * (center - j)) for i, j in taps}
    return sum(F.conv2d(part, TAPS[:, :, i, j]) for (i, j), part in moved.items())


_by_zeros = partial(_summed_taps, lambda x, i, j: _filled_up(_filled_up(x, i, 2), j, 3))
_by_padding = partial(_summed_taps, lambda x, i, j: F.pad(x, (j, -j, i, -i)))
_by_matrices = partial(_summed_taps, lambda x, i, j: _shift_matrix(i) @ x @ _shift_matrix(j).T)


def _integrated(h, dim):
    """Cumulative sums from 0 on."""
    return torch.cat([torch.zeros_like(h.narrow(dim, 0, 1)), h.cumsum(dim)], dim)


def _boxes(h, dim, size=4, rest=False):
    """Differences of sums of the elements before each one, or of it and the rest."""
    sums = _integrated(h.flip(dim), dim).flip(dim) if rest else _integrated(h, dim)
    return sums.narrow(dim, size, SIZE + 1 - size) - sums.narrow(dim, 0, SIZE + 1 - size)


def _box_sums(h, dim, reach=2):
    """Sums of the parts of boxes that are on the image, as in guided image filtering."""
    sums = h.cumsum(dim).movedim(dim, 3)
    inner = sums[..., 2 * reach + 1 :] - sums[..., : -2 * reach - 1]
    last = sums[..., -1:] - sums[..., -2 * reach - 1 : -reach - 1]
    return torch.cat([sums[..., reach : 2 * reach + 1], inner, last], 3).movedim(3, dim)


def _by_quarters(x):
    return torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2)


def _attention(core, tokens):
    """``core`` takes queries, keys and values: ``(N, heads, T, features)``."""
    heads = PROJECTED(tokens).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    return MODULE.out_proj(core(*heads).transpose(1, 2).flatten(2))


def _heads_by_chunk(tokens):
    parts = PROJECTED(tokens).chunk(3, 2)
    heads = FUSED(*(torch.stack(part.chunk(HEADS, 2), 1) for part in parts))
    return MODULE.out_proj(torch.cat(heads.unbind(1), 2))


def _in_the_batch(core):
    return lambda *parts: core(*(part.flatten(0, 1) for part in parts)).unflatten(0, (-1, HEADS))


def _with_a_window_mask(tokens):
    row, column = torch.arange(GRID**2) // GRID // WINDOW, torch.arange(GRID**2) % GRID // WINDOW
    mask = (row[:, None] == row) & (column[:, None] == column)
    return _attention(partial(FUSED, attn_mask=mask), tokens)


def _attention_in_windows(tokens):
    attended = _attention(FUSED, _partition(_grid(tokens)).flatten(1, 2))
    return _tokens(_reverse(attended, len(tokens), GRID))


def _explicit(q, k, v):
    return (q @ k.mT / 2).softmax(-1) @ v


def _module(tokens):
    return MODULE(tokens, tokens, tokens, need_weights=False)[0]


PAIRS = [
    *_written(SAME, _into(NET))(
        channels_by_a_list=lambda x: x[:, [0, 1, 2]],
        channels_by_a_tensor=lambda x: x[:, torch.arange(3)],
        channels_by_index_select=lambda x: x.index_select(1, torch.arange(3)),
        channels_by_gather=lambda x: x.gather(1, torch.arange(3)[:, None, None].expand_as(x)),
        channels_by_a_matrix=lambda x: torch.einsum("nchw,dc->ndhw", x, torch.eye(3).double()),
        rows_by_a_matrix=lambda x: torch.eye(SIZE).double() @ x,
        channels_by_slices_and_cat=lambda x: torch.cat([x[:, :1], x[:, 1:2], x[:, 2:]], 1),
        channels_by_unbind_and_stack=lambda x: torch.stack(x.unbind(1), 1),
        channels_by_select_and_stack=lambda x: torch.stack([x.select(1, c) for c in range(3)], 1),
        channels_by_split_and_cat=lambda x: torch.cat(x.split([1, 2], 1), 1),
        channels_by_chunk_and_cat=lambda x: torch.cat(x.chunk(3, 1), 1),
        channels_dropped_again=lambda x: torch.cat([x, x * 0], 1)[:, :3],
        channels_last_and_first_again=lambda x: x.movedim(1, -1).permute(0, 3, 1, 2),
        repeated_once=lambda x: x.repeat(1, 1, 1, 1),
        tiled_once=lambda x: x.tile(1, 1, 1),
        expanded_as_itself=lambda x: x.expand_as(x),
        viewed_as_itself=lambda x: x.view_as(x),
        flattened_and_back=lambda x: x.flatten(1).unflatten(1, (3, SIZE, SIZE)),
        made_contiguous=lambda x: x.mT.contiguous().mT,
        in_channels_last_memory=lambda x: x.contiguous(memory_format=torch.channels_last),
        through_float32=lambda x: x.float().double(),
        cloned=lambda x: x.clone(),
        a_dimension_by_none=lambda x: x[:, None].squeeze(1).unsqueeze(-1)[..., 0],
        halves_split_and_joined=lambda x: torch.cat(x.split(SIZE // 2, 2), 2),
        halves_by_slices_and_cat=lambda x: torch.cat([x[..., :12], x[..., 12:]], 3),
        rows_by_unbind_and_stack=lambda x: torch.stack(x.unbind(2), 2),
        where_it_is_true=lambda x: torch.where(torch.ones_like(x, dtype=torch.bool), x, 0),
        masked_nowhere=lambda x: x.masked_fill(torch.zeros_like(x, dtype=torch.bool), 0),
        written_on_a_canvas=lambda x: torch.zeros_like(x).copy_(x),
        rolled_and_back=lambda x: ROLL_BACK(ROLL(x)),
        samples_turned_and_back=lambda x: x.flip(0).flip(0),
    ),
    *_written(NET)(
        one_sample_at_a_time=lambda x: torch.cat([NET(part) for part in x.split(1)]),
        samples_by_index=lambda x: torch.stack([NET(x[i][None])[0] for i in range(len(x))]),
        samples_in_another_order=lambda x: NET(x.flip(0)).flip(0),
        a_batch_filled_up=lambda x: NET(torch.cat([x, torch.zeros_like(x)]))[: len(x)],
    ),
    *_written(BGR_NET)(
        bgr_by_a_list=lambda x: NET(x[:, [2, 1, 0]]),
        bgr_by_flip=lambda x: NET(x.flip(1)),
        bgr_by_fliplr=lambda x: NET(x.fliplr()),
        bgr_by_unbind=lambda x: NET(torch.stack(x.unbind(1)[::-1], 1)),
    ),
    *_written(lambda x: (x - MEAN) / STD, _into(NET))(
        normalized_by_torchvision=lambda x: TF.normalize(x, MEANS, STDS),
        normalized_in_place=lambda x: x.clone().sub_(MEAN).div_(STD),
        normalized_by_scale_and_shift=lambda x: x * (1 / STD) - MEAN / STD,
        normalized_by_batch_norm=lambda x: F.batch_norm(x, MEANS, STDS**2, eps=0),
        normalized_by_conv=lambda x: F.conv2d(x, 1 / STD[..., None], -MEANS / STDS, groups=3),
    ),
    *_written(lambda x: (x - torch.full((3, 1, 1), 0.5)) / torch.tensor(0.25), _into(NET))(
        normalized_by_numbers=lambda x: (x - 0.5) / 0.25,
        normalized_to_both_signs=lambda x: 4 * x - 2,
    ),
    *_written(NET, move=lambda x: x.flip(3))(
        mirrored_by_flip=lambda x: NET(x.flip(3)),
        mirrored_by_an_index=lambda x: NET(x[..., BACKWARDS]),
        mirrored_by_index_select=lambda x: NET(x.index_select(3, BACKWARDS)),
        mirrored_by_gather=lambda x: NET(x.gather(3, BACKWARDS.expand_as(x))),
        mirrored_by_take_along_dim=lambda x: NET(x.take_along_dim(BACKWARDS.expand_as(x), 3)),
        mirrored_by_fliplr=lambda x: NET(x.permute(2, 3, 0, 1).fliplr().permute(2, 3, 0, 1)),
        mirrored_by_torchvision=lambda x: NET(TF.hflip(x)),
        mirrored_by_a_matrix=lambda x: NET(x @ torch.eye(SIZE).double().flip(0)),
        mirrored_by_linear=lambda x: NET(F.linear(x, torch.eye(SIZE).double().flip(0))),
    ),
    *_written(NET, move=lambda x: x.flip(2))(
        upside_down_by_flip=lambda x: NET(x.flip(2)),
        upside_down_by_torchvision=lambda x: NET(TF.vflip(x)),
        upside_down_by_unbind_and_stack=lambda x: NET(torch.stack(x.unbind(2)[::-1], 2)),
    ),
    *_written(NET, move=lambda x: x.mT)(
        transposed=lambda x: NET(x.transpose(2, 3)),
        transposed_by_swapaxes=lambda x: NET(x.swapaxes(-1, -2)),
        transposed_by_movedim=lambda x: NET(x.movedim(2, 3)),
        transposed_by_einsum=lambda x: NET(torch.einsum("nchw->ncwh", x)),
    ),
    *_written(NET, move=lambda x: x.rot90(1, (2, 3)), back=lambda m: m.rot90(-1, (2, 3)))(
        turned_by_rot90=lambda x: NET(x.rot90(1, (2, 3))),
        turned_by_transpose_and_flip=lambda x: NET(x.mT.flip(2)),
    ),
    *_written(FINE_NET, move=ROLL, back=ROLL_BACK)(
        shifted_by_roll=lambda x: FINE_NET(ROLL(x)),
        shifted_by_cat=lambda x: FINE_NET(torch.cat([x[..., -5:], x[..., :-5]], 3).roll(3, 2)),
        shifted_by_an_index=lambda x: FINE_NET(x.roll(3, 2)[..., ROLLED]),
        shifted_by_matrices=lambda x: FINE_NET(
            torch.eye(SIZE).double().roll(3, 0) @ x @ torch.eye(SIZE).double().roll(5, 1)
        ),
    ),
    *_written(NET, move=ROLL, back=ROLL_BACK, limit=CUT)(
        shifted_between_coarse_cells=lambda x: NET(ROLL(x)),
    ),
    *_written(FINE_NET, move=lambda x: x[INNER], back=BOX)(
        cropped_by_slices=lambda x: FINE_NET(x[INNER]),
        cropped_by_narrow=lambda x: FINE_NET(x.narrow(2, 3, 18).narrow(3, 4, 16)),
        cropped_by_index_select=lambda x: FINE_NET(x[..., 4:20].index_select(2, MIDDLE)),
        cropped_by_negative_padding=lambda x: FINE_NET(F.pad(x, (-4, -4, -3, -3))),
        cropped_by_split=lambda x: FINE_NET(x.split([3, 18, 3], 2)[1].tensor_split([4, 20], 3)[1]),
        cropped_by_torchvision=lambda x: FINE_NET(TF.center_crop(x, [18, 16])),
        cropped_by_matrices=lambda x: FINE_NET(
            torch.eye(SIZE).double()[3:21] @ x @ torch.eye(SIZE).double()[:, 4:20]
        ),
    ),
    *_written(NET, move=lambda x: x[INNER], back=BOX, limit=CUT)(
        cropped_between_coarse_cells=lambda x: NET(x[INNER]),
    ),
    *_written(lambda x: F.pad(x, (8, 0)), _into(NET))(
        letterbox_by_torchvision=lambda x: TF.pad(x, [8, 0, 0, 0]),
        letterbox_by_cat=lambda x: torch.cat([torch.zeros_like(x[..., :8]), x], 3),
        letterbox_on_a_canvas=lambda x: _set(GRAY[: len(x)] * 0, (..., slice(8, None)), x),
    ),
    *_written(lambda x: F.pad(x, (8, 0), value=0.5), _into(NET))(
        gray_letterbox_by_cat=lambda x: torch.cat([GRAY[: len(x), ..., :8], x], 3),
        gray_letterbox_on_a_canvas=lambda x: _set(GRAY[: len(x)].clone(), (..., slice(8, None)), x),
        gray_letterbox_by_index_copy=lambda x: GRAY[: len(x)].index_copy(3, torch.arange(8, 32), x),
    ),
    *_written(F.silu, BETWEEN)(
        activation_in_windows=_in_windows,
        activation_in_shifted_windows=lambda h: ROLL_BACK(_in_windows(ROLL(h))),
        activation_on_rows_as_samples=lambda h: (
            F.silu(h.movedim(2, 1).flatten(0, 1)).unflatten(0, (-1, SIZE)).movedim(1, 2)
        ),
        activation_on_patches=lambda h: F.fold(F.silu(F.unfold(h, 4, stride=4)), SIZE, 4, stride=4),
        activation_on_quarters=lambda h: F.pixel_shuffle(F.silu(F.pixel_unshuffle(h, 2)), 2),
        activation_while_mirrored=lambda h: F.silu(h.flip(3)).flip(3),
        activation_while_turned=lambda h: F.silu(h.rot90(1, (2, 3))).rot90(-1, (2, 3)),
        activation_while_shifted=lambda h: ROLL_BACK(F.silu(ROLL(h))),
        activation_on_tokens=lambda h: _grid(F.silu(_tokens(h))),
        activation_tokens_first=lambda h: _grid(F.silu(_tokens(h).movedim(1, 0)).movedim(0, 1)),
        activation_with_a_class_token=lambda h: _grid(_with_a_class_token(F.silu, _tokens(h))),
        activation_on_shuffled_tokens=lambda h: _grid(_shuffled(F.silu, _tokens(h))),
        activation_by_take=lambda h: F.silu(h.take(torch.arange(h.numel()))).view_as(h),
        activation_in_place=lambda h: F.silu(h, inplace=True),
        activation_in_place_on_a_view=lambda h: F.silu(h.view(len(h), -1), inplace=True).view_as(h),
        activation_in_place_on_a_transpose=lambda h: F.silu(h.mT, inplace=True).mT,
    ),
    *_written(F.silu, partial(_within, before=COARSE_STEM))(
        coarse_activation_in_shifted_windows=lambda h: ROLL_BACK(_in_windows(ROLL(h))),
        coarse_activation_while_mirrored=lambda h: F.silu(h.flip(3)).flip(3),
        coarse_activation_on_tokens_shuffled_by_a_matrix=lambda h: _grid(
            SHUFFLE.mT @ F.silu(SHUFFLE @ _tokens(h))
        ),
        coarse_activation_on_tokens_shuffled_by_bmm=lambda h: _grid(
            torch.bmm(SHUFFLE.mT.expand(len(h), -1, -1), F.silu(SHUFFLE @ _tokens(h)))
        ),
        coarse_activation_on_shuffled_tokens=lambda h: _grid(_shuffled(F.silu, _tokens(h))),
    ),
    *_written(lambda p, mask: torch.where(mask[..., None], F.silu(p), p), _with_a_mask)(
        mask_assigned=lambda p, mask: _set(p.clone(), mask, F.silu(p[mask])),
        mask_by_index_put=lambda p, mask: p.index_put((mask,), F.silu(p[mask])),
        mask_by_masked_scatter=lambda p, mask: p.masked_scatter(mask[..., None], F.silu(p[mask])),
    ),
    *_written(lambda h: torch.cat([F.silu(h[:, :, :9]), h[:, :, 9:]], 2), BETWEEN)(
        rows_by_slice_scatter=lambda h: h.slice_scatter(F.silu(h[:, :, :9]), 2, 0, 9),
        rows_assigned=lambda h: _set(h.clone(), (..., slice(9), slice(None)), F.silu(h[:, :, :9])),
    ),
    *_written(lambda h: F.relu(h + F.silu(h)), BETWEEN)(
        residual_in_place=lambda h: F.silu(h).add_(h).relu_(),
        relu_on_halves=lambda h: torch.cat([F.relu(z) for z in (h + F.silu(h)).chunk(2, 3)], 3),
    ),
    *_written(lambda x: _tokens(F.conv2d(x, PATCHES, stride=PATCH)), PATCHED)(
        patches_by_view=lambda x: F.linear(
            x.view(-1, 3, GRID, 4, GRID, 4).permute(0, 2, 4, 3, 5, 1).reshape(len(x), -1, 48),
            PATCHES.permute(0, 2, 3, 1).flatten(1),
        ),
        patches_by_f_unfold=lambda x: F.unfold(x, PATCH, stride=PATCH).mT @ PATCH_ROWS.T,
        patches_by_unfold=lambda x: torch.einsum(
            "nchwpq,dcpq->nhwd", x.unfold(2, 4, 4).unfold(3, 4, 4), PATCHES
        ).flatten(1, 2),
        patches_by_pixel_unshuffle=lambda x: _tokens(F.pixel_unshuffle(x, 4)) @ PATCH_ROWS.T,
    ),
    *_written(partial(F.conv2d, weight=KERNEL, padding=1), FIRST)(
        conv_with_padding_same=partial(F.conv2d, weight=KERNEL, padding="same"),
        conv_on_a_padded_picture=lambda x: F.conv2d(F.pad(x, AROUND), KERNEL),
        conv_by_padding_and_f_unfold=lambda x: (ROWS @ F.unfold(F.pad(x, AROUND), 3)).view(FULL),
        conv_by_f_unfold=lambda x: (ROWS @ F.unfold(x, 3, padding=1)).view(FULL),
        conv_by_unfold=lambda x: torch.einsum(
            "nchwij,dcij->ndhw", F.pad(x, AROUND).unfold(2, 3, 1).unfold(3, 3, 1), KERNEL
        ),
        conv_by_shifts=_shifted_taps,
        conv_by_shifts_filled_with_zeros=_by_zeros,
        conv_by_padded_and_cropped_shifts=_by_padding,
        conv_by_shift_matrices=_by_matrices,
        conv_by_its_transpose=lambda x: F.conv_transpose2d(x, TURNED, padding=1),
        conv_while_mirrored=lambda x: F.conv2d(x.flip(3), KERNEL.flip(3), padding=1).flip(3),
        conv_of_halves=lambda x: torch.cat([F.conv2d(x, k, padding=1) for k in KERNEL.chunk(2)], 1),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (2, 0, 2, 0)), KERNEL), FIRST)(
        causal_conv_by_shifts=lambda x: _shifted_taps(F.pad(x, (2, 0, 2, 0)), pad=0),
        causal_conv_by_shifts_filled_with_zeros=partial(_by_zeros, center=2),
        causal_conv_by_shift_matrices=partial(_by_matrices, center=2),
        causal_conv_by_f_unfold=lambda x: (ROWS @ F.unfold(F.pad(x, (2, 0, 2, 0)), 3)).view(FULL),
        causal_conv_cropped=lambda x: F.conv2d(x, KERNEL, padding=2)[..., :SIZE, :SIZE],
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (2, 0, 2, 0)), KERNEL, stride=2), FIRST)(
        causal_strided_conv_by_shifts=lambda x: _by_zeros(x, center=2)[:, :, ::2, ::2],
        causal_strided_conv_by_f_unfold=lambda x: (
            ROWS @ F.unfold(F.pad(x, (2, 0, 2, 0)), 3, stride=2)
        ).unflatten(2, (12, 12)),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (1, 0, 1, 0)), HALVING), FIRST)(
        even_causal_conv_by_f_unfold=lambda x: (
            HALVING.flatten(1) @ F.unfold(F.pad(x, (1, 0, 1, 0)), 2)
        ).view(FULL),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (3, 0, 3, 0)), EVEN), FIRST)(
        causal_conv_of_four_cropped=lambda x: F.conv2d(x, EVEN, padding=3)[..., :SIZE, :SIZE],
        causal_conv_of_four_by_f_unfold=lambda x: (
            EVEN.flatten(1) @ F.unfold(F.pad(x, (3, 0, 3, 0)), 4)
        ).view(FULL),
        causal_conv_of_four_by_shifts=lambda x: sum(
            torch.einsum(
                "nchw,dc->ndhw", shifted[..., i : i + SIZE, j : j + SIZE], EVEN[:, :, i, j]
            )
            for shifted in [F.pad(x, (3, 0, 3, 0))]
            for i in range(4)
            for j in range(4)
        ),
    ),
    *_written(partial(F.conv2d, weight=KERNEL), FIRST)(
        valid_conv_by_f_unfold=lambda x: (ROWS @ F.unfold(x, 3)).unflatten(2, (22, 22)),
        valid_conv_by_unfold=lambda x: torch.einsum(
            "nchwij,dcij->ndhw", x.unfold(2, 3, 1).unfold(3, 3, 1), KERNEL
        ),
        valid_conv_by_shifts=partial(_shifted_taps, pad=0),
    ),
    *_written(partial(F.conv2d, weight=KERNEL, stride=2, padding=1), FIRST)(
        padded_strided_conv_by_shifts=partial(_shifted_taps, stride=2),
        deformable_conv_at_its_own_points=lambda x: torchvision.ops.deform_conv2d(
            x, x.new_zeros(len(x), 18, 12, 12), KERNEL, stride=2, padding=1
        ),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), KERNEL, stride=2), FIRST)(
        conv_padded_at_the_end_by_shifts=lambda x: _shifted_taps(
            F.pad(x, (0, 1, 0, 1)), pad=0, stride=2
        ),
    ),
    *_written(partial(F.conv2d, weight=KERNEL, stride=2), FIRST)(
        strided_conv_by_f_unfold=lambda x: (ROWS @ F.unfold(x, 3, stride=2)).unflatten(2, (11, 11)),
    ),
    *_written(partial(F.conv2d, weight=KERNEL, dilation=3, padding=3), FIRST)(
        dilated_conv_by_f_unfold=lambda x: (ROWS @ F.unfold(x, 3, 3, 3)).view(FULL),
        dilated_conv_by_shifts=partial(_shifted_taps, pad=3, dilation=3),
        dilated_conv_by_shifts_filled_with_zeros=partial(_by_zeros, dilation=3),
        dilated_conv_by_matrices=partial(_by_matrices, dilation=3),
    ),
    *_written(partial(F.conv2d, weight=KERNEL, dilation=2), FIRST)(
        valid_dilated_conv_by_f_unfold=lambda x: (ROWS @ F.unfold(x, 3, 2)).unflatten(2, (20, 20)),
        valid_dilated_conv_by_shifts=partial(_shifted_taps, pad=0, dilation=2),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, AROUND, "reflect"), KERNEL), FIRST)(
        reflected_by_an_index=lambda x: F.conv2d(x[:, :, REFLECTED][..., REFLECTED], KERNEL),
        reflected_by_f_unfold=lambda x: (ROWS @ F.unfold(F.pad(x, AROUND, "reflect"), 3)).view(
            FULL
        ),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, (2,) * 4, "reflect"), EVEN, stride=2), FIRST)(
        half_a_kernel_reflected_by_f_unfold=lambda x: (
            EVEN.flatten(1) @ F.unfold(F.pad(x, (2,) * 4, "reflect"), 4, stride=2)
        ).unflatten(2, (13, 13)),
    ),
    *_written(lambda x: F.conv2d(F.pad(x, AROUND, "circular"), KERNEL), FIRST)(
        circular_by_f_unfold=lambda x: (ROWS @ F.unfold(F.pad(x, AROUND, "circular"), 3)).view(
            FULL
        ),
        circular_by_rolls=lambda x: sum(
            torch.einsum("nchw,dc->ndhw", x.roll((1 - i, 1 - j), (2, 3)), KERNEL[:, :, i, j])
            for i in range(3)
            for j in range(3)
        ),
    ),
    *_written(partial(F.conv2d, weight=POINTWISE), ACTIVATED)(
        pointwise_as_linear=lambda h: F.linear(h.movedim(1, 3), MIX).movedim(3, 1),
        pointwise_as_einsum=lambda h: torch.einsum("nchw,dc->ndhw", h, MIX),
        pointwise_as_matmul=lambda h: (MIX @ h.flatten(2)).view_as(h),
        pointwise_as_tensordot=lambda h: torch.tensordot(h, MIX, ([1], [1])).movedim(3, 1),
        pointwise_as_bmm=lambda h: _grid(torch.bmm(_tokens(h), MIX.T.expand(len(h), -1, -1))),
        pointwise_as_conv1d=lambda h: F.conv1d(h.flatten(2), MIX[..., None]).view_as(h),
        pointwise_as_a_sum=lambda h: (h[:, None] * POINTWISE).sum(2),
    ),
    *_written(partial(F.conv2d, weight=DEPTH, padding=1, groups=WIDTH), ACTIVATED)(
        depthwise_by_channel=lambda h: torch.cat(
            [F.conv2d(h[:, [c]], DEPTH[[c]], padding=1) for c in range(WIDTH)], 1
        ),
        depthwise_by_shifts=partial(_by_shifts, lambda x, i, j: x * DEPTH[:, 0, i, j, None, None]),
    ),
    *_written(partial(F.avg_pool2d, kernel_size=2), ACTIVATED)(
        average_by_reshape=lambda h: h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5)),
        average_by_slices=lambda h: sum(_by_quarters(h).unbind(2)) / 4,
        average_by_stacked_slices=lambda h: _by_quarters(h).mean(2),
        average_by_adaptive_pooling=lambda h: F.adaptive_avg_pool2d(h, SIZE // 2),
        average_by_f_unfold=lambda h: F.unfold(h, 2, stride=2).view(-1, WIDTH, 4, 12, 12).mean(2),
        average_by_unfold=lambda h: h.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)),
        average_by_conv=lambda h: F.conv2d(h, ONES / 4, stride=2, groups=WIDTH),
        average_by_matrices=lambda h: HALVES @ h @ HALVES.mT / 4,
        average_by_interpolation=lambda h: F.interpolate(h, scale_factor=0.5, mode="area"),
    ),
    *_written(partial(F.avg_pool2d, kernel_size=4, stride=1), ACTIVATED)(
        box_by_cumulative_sums=lambda h: _boxes(_boxes(h, 2), 3) / 16,
        box_by_sums_from_the_end=lambda h: _boxes(_boxes(h.flip(2), 2).flip(2), 3) / 16,
        box_by_sums_of_the_rest=lambda h: -_boxes(_boxes(h, 2), 3, rest=True) / 16,
    ),
    *_written(partial(F.avg_pool2d, kernel_size=2), ACTIVATED)(
        average_by_cumulative_sums=lambda h: (
            _integrated(_integrated(h, 2)[:, :, ::2].diff(dim=2), 3)[..., ::2].diff() / 4
        ),
    ),
    *_written(
        partial(F.avg_pool2d, kernel_size=5, stride=1, padding=2, count_include_pad=False),
        ACTIVATED,
    )(
        box_of_the_guided_filter=lambda h: (
            _box_sums(_box_sums(h, 2), 3) / _box_sums(_box_sums(torch.ones_like(h), 2), 3)
        ),
    ),
    *_written(CLEAR, ACTIVATED)(
        border_cleared_by_padding=lambda h: BOX(h[INNER]),
        border_cleared_by_negative_padding=lambda h: BOX(F.pad(h, (-4, -4, -3, -3))),
        border_cleared_on_a_canvas=lambda h: _set(torch.zeros_like(h), INNER, h[INNER]),
        border_cleared_by_slices=lambda h: torch.zeros_like(h).slice_scatter(
            F.pad(h[INNER], (4, 4)), 2, 3, 21
        ),
    ),
    *_written(lambda x: F.conv2d(F.pad(CLEAR(x), AROUND), KERNEL), FIRST)(
        conv_of_a_padded_crop=lambda x: F.conv2d(BOX(x[INNER]), KERNEL, padding=1),
        conv_of_a_crop_padded_twice=lambda x: F.conv2d(F.pad(BOX(x[INNER]), AROUND), KERNEL),
        unfold_of_a_padded_crop=lambda x: (ROWS @ F.unfold(BOX(x[INNER]), 3, padding=1)).view(FULL),
    ),
    *_written(lambda x: F.conv2d(x[INNER], KERNEL, padding=1), FIRST)(
        conv_of_a_crop_by_padding=lambda x: F.conv2d(F.pad(x[INNER], AROUND), KERNEL),
    ),
    *_written(lambda h: h * (torch.arange(SIZE) // 4 != 2), ACTIVATED)(
        columns_cleared_by_cat=lambda h: torch.cat(
            [h[..., :8], torch.zeros_like(h[..., :4]), h[..., 12:]], 3
        ),
        columns_cleared_by_index_copy=lambda h: torch.zeros_like(h).index_copy(
            3, UNCLEARED, h[..., UNCLEARED]
        ),
        columns_cleared_by_a_matrix=lambda h: (
            h @ torch.diag((torch.arange(SIZE) // 4 != 2).double())
        ),
    ),
    *_written(partial(F.max_pool2d, kernel_size=2), ACTIVATED)(
        maximum_by_reshape=lambda h: h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5)),
        maximum_by_slices=lambda h: _by_quarters(h).max(2).values,
        maximum_by_adaptive_pooling=lambda h: F.adaptive_max_pool2d(h, SIZE // 2),
        maximum_by_f_unfold=lambda h: F.unfold(h, 2, stride=2).view(-1, WIDTH, 4, 12, 12).amax(2),
    ),
    *_written(partial(F.conv2d, weight=HALVING, stride=2), FIRST)(
        strided_by_pixel_unshuffle=lambda x: F.conv2d(F.pixel_unshuffle(x, 2), HALVING_MIX),
        strided_by_slices=lambda x: F.conv2d(_by_quarters(x).flatten(1, 2), HALVING_MIX),
    ),
    *_written(partial(F.conv2d, weight=POINTWISE, stride=2), ACTIVATED)(
        strided_pointwise_by_slices=lambda h: F.conv2d(h[:, :, ::2, ::2], POINTWISE),
        strided_pointwise_by_pooling=lambda h: F.conv2d(F.max_pool2d(h, 1, 2), POINTWISE),
    ),
    *_written(lambda h: F.interpolate(h, scale_factor=2.0), COARSE_ACTIVATED)(
        enlarged_by_repeat_interleave=lambda h: h.repeat_interleave(2, 2).repeat_interleave(2, 3),
        enlarged_by_expand=lambda h: (
            h[..., None, :, None].expand(-1, -1, -1, 2, -1, 2).flatten(4).flatten(2, 3)
        ),
        enlarged_by_matrices=lambda h: HALVES.mT @ h @ HALVES,
        enlarged_by_an_index=lambda h: h[:, :, DOUBLED][..., DOUBLED],
        enlarged_by_transposed_conv=lambda h: F.conv_transpose2d(h, ONES, stride=2, groups=WIDTH),
    ),
    *_written(lambda h: F.interpolate(h[:, :, ::2, ::2], scale_factor=2.0), ACTIVATED)(
        every_other_repeated=lambda h: (
            h[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)
        ),
        every_other_by_an_index=lambda h: h[:, :, DOUBLED * 2][..., DOUBLED * 2],
        every_other_by_matrices=lambda h: HALVES.mT @ h[:, :, ::2, ::2] @ HALVES,
    ),
    *_written(lambda h: h.mean((2, 3)), _before_the_head)(
        pooled_by_adaptive_pooling=lambda h: F.adaptive_avg_pool2d(h, 1).flatten(1),
        pooled_as_a_sequence=lambda h: h.flatten(2).mean(-1),
        pooled_by_a_sum=lambda h: h.sum((2, 3)) * (1 / SIZE**2),
        pooled_by_einsum=lambda h: torch.einsum("nchw->nc", h) / SIZE**2,
    ),
    *_written(_mixed, ON_TOKENS)(
        linear_on_tokens_first=lambda t: _mixed(t.transpose(0, 1)).transpose(0, 1),
        linear_by_addmm=lambda t: F.silu(torch.addmm(OF_ROWS, t.flatten(0, 1), MIX.T).view_as(t)),
        linear_by_baddbmm=lambda t: F.silu(
            torch.baddbmm(OF_ROWS.expand(len(t), 1, -1), t, MIX.T.expand(len(t), -1, -1))
        ),
        linear_by_inner=lambda t: F.silu(torch.inner(t, MIX) + OF_ROWS),
        linear_on_shuffled_tokens=partial(_shuffled, _mixed),
        linear_with_a_class_token=partial(_with_a_class_token, _mixed),
        linear_as_conv=lambda t: _tokens(F.silu(F.conv2d(_grid(t), POINTWISE, OF_ROWS))),
        linear_in_place=lambda t: F.silu(F.linear(t, MIX, OF_ROWS), inplace=True),
        einsum_in_place=lambda t: F.silu(torch.einsum("nte,de->ntd", t, MIX).add_(OF_ROWS), True),
    ),
    *_written(lambda t: _mixed(t) * (_order(t)[1] < SIZE**2 // 4)[..., None], ON_TOKENS)(
        quarter_padded_and_restored=_quarter_padded_and_restored
    ),
    *_written(NORM, ON_TOKENS)(
        layer_norm_on_a_picture=lambda t: _tokens(NORM(_grid(t).movedim(1, 3)).movedim(3, 1)),
        layer_norm_on_pixels_as_samples=lambda t: NORM(t.flatten(0, 1)).view_as(t),
    ),
    *_written(partial(_attention, FUSED), ATTENDING)(
        heads_by_chunk_and_cat=_heads_by_chunk,
        heads_in_the_batch=partial(_attention, _in_the_batch(FUSED)),
        attention_on_shuffled_tokens=partial(_shuffled, partial(_attention, FUSED)),
    ),
    *_written(_with_a_window_mask, ATTENDING)(windows_for_a_mask=_attention_in_windows),
    *_written(partial(_attention, _explicit), ATTENDING)(
        scores_in_the_batch=partial(_attention, _in_the_batch(_explicit)),
        scores_by_einsum=partial(
            _attention,
            lambda q, k, v: torch.einsum("nhqd,nhkd->nhqk", q / 2, k).softmax(3) @ v,
        ),
    ),
    *_written(_module, ATTENDING)(
        attention_module_with_tokens_first=lambda t: MODULE_TOKENS_FIRST(
            *[t.movedim(1, 0)] * 3, need_weights=False
        )[0].movedim(0, 1),
        attention_module_on_shuffled_tokens=partial(_shuffled, _module),
    ),
]
# Of these the nonlinear operations, or the biases, are others: other terms that have the same sum.
OTHER_TERMS = [
    *_written(lambda x: UNPADDED_NET((x - MEAN) / STD))(normalization_in_a_layer=FOLDED_NET),
    *_written(F.silu, BETWEEN)(
        silu_as_a_product=lambda h: h * h.sigmoid(),
        silu_on_halves=lambda h: torch.cat([F.silu(half) for half in h.chunk(2, 2)], 2),
    ),
    *_written(NORM, ON_TOKENS)(
        layer_norm_by_hand=lambda t: (
            (t - t.mean(2, keepdim=True)) / (t.var(2, False, True) + NORM.eps).sqrt() * NORM.weight
            + NORM.bias
        )
    ),
    *_written(partial(_attention, FUSED), ATTENDING)(
        attention_by_softmax=partial(_attention, _explicit), attention_by_its_module=_module
    ),
]


def _explained(method, x):
    """The output, and by each aggregation the evidence for and against it, as two channels."""
    whole = method.decompose(x, TARGET)
    maps = {
        aggregation: torch.cat(
            [whole.map(sign, aggregation) for sign in ("positive", "negative")], 1
        )
        for aggregation in ("paper", "levels")
    }
    assert bool((whole.delta.abs() <= 1e-6 * maps["paper"].sum((1, 2, 3))).all())
    return whole.output, maps


@cache
def _plain(plain, move, n):
    return _explained(TGradAttribution(plain), move(_picture(n)))


def _difference(actual, wanted, limit):
    """The largest, or where coarse cells are cut, how much of the evidence is elsewhere."""
    difference = (actual - wanted).abs()
    if limit == EXACT:
        return float(difference.max() / wanted.max())
    return float((difference.sum((1, 2, 3)) / wanted.sum((1, 2, 3))).max() / 2)


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("pair", PAIRS)
def test_map_is_that_of_the_plain_form(pair, n):
    """Also in a second call, which may replay the first."""
    method, (output, wanted) = TGradAttribution(pair.other), _plain(pair.plain, pair.move, n)
    for _ in range(2):
        found, maps = _explained(method, _picture(n))
        torch.testing.assert_close(found, output, rtol=1e-9, atol=1e-12)
        # Where coarse cells are cut, by levels more of the evidence is elsewhere.
        for aggregation in ("paper", "levels") if pair.limit == EXACT else ("paper",):
            moved = pair.back(wanted[aggregation])
            assert _difference(maps[aggregation], moved, pair.limit) <= pair.limit


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("pair", OTHER_TERMS)
def test_other_terms_have_the_same_sum(pair, n):
    wholes = [TGradAttribution(f).decompose(_picture(n), target=TARGET) for f in pair[:2]]
    torch.testing.assert_close(*(whole.output for whole in wholes), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*(whole.input.positive for whole in wholes))
    torch.testing.assert_close(*(sum(term.score for term in whole.biases) for whole in wholes))


@pytest.mark.parametrize("pair", {pair.values[0].plain: pair for pair in PAIRS[::-1]}.values())
def test_a_flat_or_unmoved_map_would_not_pass(pair):
    whole = _plain(pair.plain, pair.move, 3)[1]["paper"]
    term = TGradAttribution(pair.plain).decompose(pair.move(_picture(3)), target=TARGET).input
    evidence = torch.cat([term.positive, term.negative], 1)
    score = torch.stack([term.score, -term.score], 1).clamp_min(0)
    of_input = evidence * (score / evidence.sum((2, 3)))[..., None, None]
    flat = of_input + (whole - of_input).mean((2, 3), keepdim=True)
    assert _difference(flat, whole, CUT) > CUT
    moved = pair.back(whole)
    if moved is not whole:
        assert _difference(F.interpolate(whole, moved.shape[2:]), moved, CUT) > CUT


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d((1, None)), nn.AvgPool2d((4, 1))])
def test_a_pooling_of_whole_columns_has_the_map_of_a_mean(pool):
    def forward(x, over_rows):
        h = F.relu(NET.a(x))
        ends = torch.cat([h[:, :, :2], h[:, :, -2:]], 2)
        return F.silu(NET.c(F.relu(NET.b(over_rows(ends))))).mean((2, 3)) @ HEAD

    plain = partial(forward, over_rows=lambda h: h.mean(2, keepdim=True))
    assert_same_maps(partial(forward, over_rows=pool), plain, _picture(3), TARGET)


class _Padded(nn.Module):
    """A residual network whose convolutions do not pad, as those with TensorFlow's padding."""

    def __init__(self, explicit):
        super().__init__()
        self.pads = (lambda h, n: F.pad(h, (n,) * 4)) if explicit else (lambda h, n: h)
        pad = (lambda n: 0) if explicit else (lambda n: n)
        self.stem = nn.Conv2d(3, 4, 3, 2, pad(1))
        self.block = nn.Conv2d(4, 4, 5, 1, pad(2))
        self.down = nn.Conv2d(4, 4, 3, 2, pad(1))
        self.last = nn.Conv2d(4, 4, 7, 1, pad(3))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        h = self.stem(self.pads(x, 1)).tanh()
        h = h + self.block(self.pads(h, 2)).tanh()
        h = self.down(self.pads(h, 1)).tanh()
        h = h + self.last(self.pads(h, 3)).tanh()
        return self.head(h.mean((2, 3)))


@pytest.mark.parametrize("margin", [4, 8, 12])
def test_padding_around_a_crop_is_not_part_of_the_image(margin):
    padded, explicit = _Padded(False).double(), _Padded(True).double()
    explicit.load_state_dict(padded.state_dict())
    image = torch.rand(1, 3, 48, 48).double()
    crop = image[..., margin:-margin, margin:-margin]
    wanted = F.pad(TGradAttribution(padded).attribute(crop, target=1), (margin,) * 4)
    for network in (padded, explicit):

        def of_crop(x, network=network):
            return network(x[..., margin:-margin, margin:-margin])

        torch.testing.assert_close(TGradAttribution(of_crop).attribute(image, target=1), wanted)


def test_zeros_around_an_image_are_padding_also_on_a_canvas():
    kernel, image = torch.rand(3, 3, 3, 3).double() - 0.5, torch.rand(1, 3, 12, 12).double()
    flipped = torch.eye(8).flip(0).double()

    def on_canvas(h):
        canvas = h.new_zeros(1, 3, 8, 8)
        canvas[..., 1:-1, 1:-1] = h
        return canvas

    def network(padded):
        def forward(x):
            h = padded(F.conv2d(x, kernel, stride=2, padding=1).tanh()) @ flipped
            return (h + F.conv2d(h, kernel, padding=1)).tanh().sum((1, 2, 3))

        return forward

    assert_same_maps(network(on_canvas), network(lambda h: F.pad(h, (1,) * 4)), image)
