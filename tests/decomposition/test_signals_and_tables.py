"""Signals, sequences and tables: one function has one map, however it is written."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn


def _score(h):
    """The score of a result; each of its elements has another weight."""
    return (F.silu(h) * randn(*h.shape[1:], seed=9)).flatten(1).sum(1)


# Features and electrodes that are channels of a convolution, but positions of the input.

FILTERS = randn(4, 3, 2, seed=1)  # three for each pair of features
PAIRS = {
    "split": lambda x: torch.cat(
        [F.linear(part, own) for part, own in zip(x.split(2, 1), FILTERS, strict=True)], 1
    ),
    "matrix": lambda x: x @ torch.block_diag(*FILTERS).T,
    "conv1d": lambda x: F.conv1d(x[..., None], FILTERS.flatten(0, 1)[..., None], groups=4)[..., 0],
    "conv2d": lambda x: F.conv2d(
        x[..., None, None], FILTERS.flatten(0, 1)[..., None, None], groups=4
    ).flatten(1),
}


@pytest.mark.parametrize("form", PAIRS)
def test_filters_of_a_pair_of_features_share_its_place(form):
    def plain(x):
        return _score(torch.einsum("bgi,gji->bgj", x.unflatten(1, (-1, 2)), FILTERS).flatten(1))

    def forward(x):
        return _score(PAIRS[form](x))

    assert_same_maps(forward, plain, randn(3, 8, seed=2), channel_dim=None)


@pytest.mark.parametrize("kernel", [1, 3])
def test_filters_of_an_electrode_share_its_place(kernel):
    filters = randn(5, 2, 1, kernel, seed=3)

    def each_alone(x):
        parts = [
            F.conv1d(x[:, n : n + 1], own, padding=kernel // 2) for n, own in enumerate(filters)
        ]
        return _score(torch.stack(parts, 1))

    def in_groups(x):
        h = F.conv1d(x, filters.flatten(0, 1), padding=kernel // 2, groups=5)
        return _score(h.unflatten(1, (5, 2)))

    assert_same_maps(in_groups, each_alone, randn(3, 5, 12, seed=4), channel_dim=None)


# A convolution that is written as a sum.

KERNEL = randn(4, 3, 3, seed=5)
SUMS = {
    "slices": lambda x: sum(
        torch.einsum("dc,bct->bdt", KERNEL[..., n], F.pad(x, (1, 1))[..., n : n + x.shape[2]])
        for n in range(3)
    ),
    "windows": lambda x: torch.einsum("bctk,dck->bdt", F.pad(x, (1, 1)).unfold(2, 3, 1), KERNEL),
    "blocks": lambda x: KERNEL.flatten(1) @ F.unfold(x[:, :, None], (1, 3), padding=(0, 1)),
}
ENLARGED = {
    "repeated": lambda h: h.repeat_interleave(2, 2),
    "expanded": lambda h: h[..., None].expand(*h.shape, 2).flatten(2),
    "interpolated": lambda h: F.interpolate(h, scale_factor=2),
    "shuffled": lambda h: h.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2),
}


@pytest.mark.parametrize("enlarge", ENLARGED)
@pytest.mark.parametrize("form", SUMS)
def test_copies_of_a_convolution_written_as_a_sum_divide_its_cells(form, enlarge):
    def network(x, convolve):
        return _score(ENLARGED[enlarge](convolve(x)))

    assert_same_maps(
        partial(network, convolve=SUMS[form]),
        partial(network, convolve=lambda x: F.conv1d(x, KERNEL, padding=1)),
        randn(3, 3, 12, seed=6),
    )


# Sums of neighbors beside the elements themselves.

OF_TWO = torch.tensor([-1.0, 1.0]).double().expand(3, 1, 2)
NEIGHBORS = {
    "difference": [
        lambda x: x - F.pad(x, (1, -1)),
        lambda x: F.conv1d(F.pad(x, (1, 0)), OF_TWO, groups=3),
    ],
    "difference without padding": [
        lambda x: x[..., 1:] - x[..., :-1],
        lambda x: F.conv1d(x, OF_TWO, groups=3),
    ],
    "convolution": [SUMS["slices"], lambda x: F.conv1d(x, KERNEL, padding=1)],
    "dilated convolution": [
        lambda x: x + F.pad(x, (2, -2)) + F.pad(x, (-2, 2)),
        lambda x: F.conv1d(x, torch.ones(3, 1, 3).double(), padding=2, dilation=2, groups=3),
    ],
}


@pytest.mark.parametrize("name", NEIGHBORS)
@pytest.mark.parametrize("dim", [1, 2])
def test_sums_of_neighbors_beside_the_elements_have_the_map_of_a_convolution(name, dim):
    def network(x, write):
        found = write(x)
        beside = x[..., : found.shape[2]] if dim == 1 else x[:, [0] * found.shape[1]]
        return _score(torch.cat([beside, found], dim))

    by_slices, convolved = (partial(network, write=write) for write in NEIGHBORS[name])
    assert_same_maps(by_slices, convolved, randn(3, 3, 12, seed=18))


# Every second element of a padded signal.

SQUARE = randn(3, 3, 3, seed=7)
STRIDED = {
    "slice": lambda h: h[..., ::2],
    "pooling": lambda h: F.max_pool1d(h, 1, 2),
    "reshape": lambda h: h.unflatten(2, (-1, 2))[..., 0],
    "index": lambda h: h.index_select(2, torch.arange(0, h.shape[2], 2)),
}
AFTER = {
    "convolution": lambda h: F.conv1d(h, SQUARE, padding=1),
    "pooling": lambda h: F.avg_pool1d(h, 2),
    "padding": lambda h: F.pad(h, (2, 0)),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("form", STRIDED)
@pytest.mark.parametrize("margin", [2, 4, 6])
def test_a_stride_after_padding_has_the_map_of_padding_after_a_stride(margin, form, after):
    def forward(x):
        return _score(AFTER[after](STRIDED[form](F.pad(x, (margin, margin)))))

    def plain(x):
        return _score(AFTER[after](F.pad(x[..., ::2], (margin // 2, margin // 2))))

    assert_same_maps(forward, plain, randn(3, 3, 12, seed=8))


# Operations on a signal whose elements are not at equal distances, or not all on the input.


def _both_ways(h):
    """Half of the channels look back, the other half ahead."""
    back, ahead = h[:, :2], h[:, 2:]
    return torch.cat([F.pad(back, (1, -1)), F.pad(ahead, (-1, 1))], 1)


UNEVEN = {
    "causal": lambda h: F.conv1d(F.pad(h, (2, 0)), randn(4, 4, 3, seed=11)),
    "dilated": lambda h: F.conv1d(F.pad(h, (4, 0)), randn(4, 4, 3, seed=11), dilation=2),
    "shifted": lambda h: F.pad(h, (1, -1)),
    "both ways": _both_ways,
    "reflected": lambda h: F.pad(h, (2, 2), "reflect"),
    "replicated": lambda h: F.pad(h, (0, 4), "replicate"),
    "cropped": lambda h: h[..., 4:],
    "summed": lambda h: h.cumsum(2),
}
WRITINGS = {
    "mean": [
        lambda h: h.unflatten(2, (-1, 2)).mean(3),
        lambda h: F.avg_pool1d(h, 2),
        lambda h: F.adaptive_avg_pool1d(h, h.shape[2] // 2),
        lambda h: F.interpolate(h, scale_factor=0.5, mode="area"),
        lambda h: F.conv1d(h, torch.full((4, 1, 2), 0.5).double(), stride=2, groups=4),
    ],
    "patches": [
        lambda h: F.linear(h.unfold(2, 4, 4).transpose(1, 2).flatten(2), PATCH.flatten(1)).mT,
        lambda h: F.conv1d(h, PATCH, stride=4),
    ],
    "stride": [
        lambda h: h[..., ::2],
        lambda h: F.max_pool1d(h, 1, 2),
        lambda h: F.conv1d(h, torch.ones(4, 1, 1).double(), stride=2, groups=4),
    ],
    "overlapping mean": [
        lambda h: F.avg_pool1d(h, 3, 2, 1),
        lambda h: F.avg_pool1d(F.pad(h, (1, 1)), 3, 2),
    ],
    "gate": [
        lambda h: h * h.mean(1, keepdim=True).sigmoid(),
        lambda h: h.mean(1)[:, None].sigmoid() * h,
    ],
}
PATCH = randn(4, 4, 4, seed=12)


@pytest.mark.parametrize(
    ("name", "form"), [(name, i) for name in WRITINGS for i in range(1, len(WRITINGS[name]))]
)
@pytest.mark.parametrize("before", UNEVEN)
def test_uneven_elements_have_one_map(before, name, form):
    def network(x, write):
        return _score(write(UNEVEN[before](x)))

    plain, other = (partial(network, write=WRITINGS[name][i]) for i in (0, form))
    assert_same_maps(other, plain, randn(3, 4, 24, seed=13))


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_causal_convolution_may_cut_the_end_after_padding_both_sides(size, dilation):
    kernel, missing = randn(3, 3, size, seed=14), (size - 1) * dilation

    def plain(x):
        return _score(F.conv1d(F.pad(x, (missing, 0)), kernel, dilation=dilation))

    def cut(x):
        return _score(F.conv1d(x, kernel, padding=missing, dilation=dilation)[..., :-missing])

    assert_same_maps(cut, plain, randn(3, 3, 16, seed=15))


def test_overlapping_patches_of_a_padded_stride_have_the_map_of_a_convolution():
    def padded(x):
        return F.pad(x[..., ::2], (0, 2), "replicate")

    def convolved(x):
        return _score(F.conv1d(padded(x), PATCH, stride=2))

    def unfolded(x):
        patches = padded(x).unfold(2, 4, 2).transpose(1, 2)
        return _score(F.linear(patches.flatten(2), PATCH.flatten(1)).mT)

    assert_same_maps(unfolded, convolved, randn(3, 4, 24, seed=16))


def test_strided_keys_have_the_map_of_a_pooling():
    def network(x, thin):
        keys = thin(x)
        weights = (x.mT @ keys).softmax(-1)
        return _score((weights @ keys.mT).mT)

    strided, pooled = (partial(network, thin=thin) for thin in WRITINGS["stride"][:2])
    assert_same_maps(strided, pooled, randn(3, 4, 24, seed=17))


# Means of a whole sequence beside elements of one position.

PARTS = {
    "last token": lambda h: h[:, -1],
    "first half": lambda h: h[:, :3].mean(1),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("join", [torch.cat, torch.stack])
def test_means_beside_a_part_keep_the_whole_sequence(part, join):
    x = randn(1, 6, 4, seed=10)

    def evidence(forward):
        term = TGradAttribution(lambda x: forward(x).sum()[None]).decompose(x, channel_dim=-1)
        return term.biases[-1].maps[0].positive.flatten()

    of_mean, of_part = (
        evidence(lambda x, h=h: F.silu(h(x))) for h in (lambda x: x.mean(1), PARTS[part])
    )
    found = evidence(lambda x: F.silu(join([x.mean(1), PARTS[part](x)], 1)))
    expected = torch.stack([of_mean.sum(), of_part.sum()])
    if part == "first half":
        expected = expected.flip(0)  # in the order of the middles of the cells
    torch.testing.assert_close(found, expected)


def test_a_layer_on_means_and_the_last_token_has_no_position():
    def forward(x):
        return F.linear(torch.cat([x.mean(1), x[:, -1]], 1), randn(1, 8, seed=1), randn(1))

    found = TGradAttribution(forward).decompose(randn(2, 6, 4, seed=10), 0, channel_dim=-1)
    assert found.biases[-1].placed.tolist() == [0, 0]
