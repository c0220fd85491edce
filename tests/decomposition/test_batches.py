"""The map of a sample in a batch is that of the sample alone, also if only some are padded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_as_alone

torch.manual_seed(0)
EMBED = nn.Sequential(nn.Linear(3, 5), nn.Tanh()).double()
CONV = nn.Sequential(nn.Conv1d(5, 5, 3, padding=1), nn.Tanh()).double()
LSTM = nn.LSTM(5, 5, batch_first=True).double()
HEAD = nn.Sequential(nn.Tanh(), nn.Linear(5, 2)).double()
STEPS = torch.rand(6, 5).double()
TOKENS = torch.randn(6, 6, 3).double()


def _beyond(lengths):
    return torch.arange(6) >= lengths[:, None]


def _masked(h, lengths):
    return h.masked_fill(_beyond(lengths)[..., None], 0)


def _written_into_zeros(h, lengths):
    padded = torch.zeros_like(h)
    padded[~_beyond(lengths)] = h[~_beyond(lengths)]
    return padded


def _written_into_a_number(h, lengths):
    padded = torch.full_like(h, 0.2)
    padded[~_beyond(lengths)] = h[~_beyond(lengths)]
    return padded


def _scattered(h, lengths):
    # The last two steps of each sample.
    chosen = torch.stack([lengths - 2, lengths - 1], 1)[..., None].expand(-1, -1, 5)
    return torch.zeros_like(h).scatter(1, chosen, h.gather(1, chosen))


def _padded_one_by_one(h, lengths):
    parts = zip(h, lengths.tolist(), strict=True)
    return torch.stack([F.pad(one[:length], (0, 0, 0, 6 - length)) for one, length in parts])


def _pad_sequence(h, lengths):
    parts = [one[:length] for one, length in zip(h, lengths.tolist(), strict=True)]
    # A sequence of all steps, so that every batch has the same number of them.
    return rnn.pad_sequence([*parts, h.new_zeros(6, 5)], batch_first=True)[: len(h)]


def _recurrent(h, lengths):
    packed = rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    return rnn.pad_packed_sequence(LSTM(packed)[0], batch_first=True, total_length=6)[0]


def _recurrent_with_a_number(h, lengths):
    packed = rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
    options = {"batch_first": True, "total_length": 6, "padding_value": 0.2}
    return rnn.pad_packed_sequence(LSTM(packed)[0], **options)[0]


def _pack_sequence(h, lengths):
    parts = [one[:length] for one, length in zip(h, lengths.tolist(), strict=True)]
    packed = rnn.pack_sequence(parts, enforce_sorted=False)
    return rnn.pad_packed_sequence(LSTM(packed)[0], batch_first=True, total_length=6)[0]


PADDED = [
    _masked, _written_into_zeros, _written_into_a_number, _scattered, _padded_one_by_one,
    _pad_sequence, _recurrent, _recurrent_with_a_number, _pack_sequence,
]  # fmt: skip


def _mean(h, lengths):
    return HEAD(h.sum(1) / lengths[:, None])


def _each_step(h, lengths):
    return HEAD[1](h) @ torch.ones(2).double() @ STEPS


def _convolved(h, lengths):
    return HEAD((CONV(h.mT).mT * STEPS).sum(1))


def _largest(h, lengths):
    return HEAD(h.amax(1))


@pytest.mark.parametrize("lengths", [[4, 6, 2], [4, 6], [3, 5, 4, 1, 2, 6]], ids=str)
@pytest.mark.parametrize("read", [_mean, _each_step, _convolved, _largest])
@pytest.mark.parametrize("pad", PADDED)
def test_padding_of_some_samples(pad, read, lengths):
    def network(x, lengths):
        return read(pad(EMBED(x), lengths), lengths)

    def check(lengths, *aggregations):
        assert_as_alone(
            network, TOKENS[: len(lengths)], lengths,
            target=1, aggregations=aggregations, channel_dim=2,
        )  # fmt: skip

    lengths = torch.tensor(lengths)
    at_least_two = lengths.clamp_min(2)
    if pad is not _scattered and not lengths.equal(at_least_two):
        check(lengths, "paper")
    # By levels, terms of one cell are left out, unless other samples have several.
    check(at_least_two, "paper", "levels")


def _of_one_axis(one, size):
    return one[:, : size[0], : size[1]]


def _of_corners(one, size):
    return one[:, 8 - size[0] :, 8 - size[1] :]


def _pasted(images, sizes, crop):
    canvas = torch.zeros_like(images)
    for number, size in enumerate(sizes.tolist()):
        canvas[number, :, : size[0], : size[1]] = crop(images[number], size)
    return canvas


def _stacked_canvases(images, sizes, crop):
    canvases = []
    for one, size in zip(images, sizes.tolist(), strict=True):
        canvases.append(torch.full((images.shape[1], 8, 8), 0.1).to(images))
        canvases[-1][:, : size[0], : size[1]] = crop(one, size)
    return torch.stack(canvases)


def _pooled(images, sizes, crop):
    return torch.stack(
        [
            crop(one, size).mean((1, 2), keepdim=True)
            for one, size in zip(images, sizes.tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("crop", [_of_one_axis, _of_corners])
@pytest.mark.parametrize("place", [_pasted, _stacked_canvases, _pooled])
@pytest.mark.parametrize(
    "sizes", [[[5, 6], [4, 4], [3, 7]], [[8, 4], [5, 8], [8, 8]], [[4, 4], [5, 5]]], ids=str
)
def test_crops_of_different_sizes(sizes, place, crop):
    """A size of 8 is the whole axis."""
    sizes = torch.tensor(sizes)
    stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh()).double()
    body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()).double()
    head = nn.Linear(3, 2).double()

    def network(images, sizes):
        return head(body(place(stem(images), sizes, crop)).mean((2, 3)))

    images = torch.rand(len(sizes), 2, 8, 8).double()
    assert_as_alone(network, images, sizes, target=1, aggregations=["paper"])


def test_windows_of_different_samples_are_no_sliding_window():
    network = nn.Linear(1, 1).double()
    starts = torch.tensor([0, 1, 2])

    def mean_of_a_window(x, starts):
        parts = zip(x, starts.tolist(), strict=True)
        return network(torch.stack([one[start : start + 3].mean(0) for one, start in parts]))

    tokens = torch.rand(3, 10, 1).double()
    assert_as_alone(mean_of_a_window, tokens, starts, target=0, channel_dim=2)


def test_a_sample_without_elements_takes_those_of_no_other():
    layer = nn.Linear(1, 1).double()

    def network(x, lengths):
        kept = torch.arange(3) < lengths[:, None]
        written = torch.zeros_like(x)
        written[kept] = x[kept]
        return layer(written).sum((1, 2)) + x.sum((1, 2))

    with pytest.raises(ValueError, match="Explain them one at a time"):
        TGradAttribution(network).attribute(
            torch.ones(2, 3, 1).double(),
            additional_forward_args=torch.tensor([2, 0]),
            channel_dim=2,
        )


def test_the_default_type_changes_nothing():
    lengths = torch.tensor([4, 6, 2])

    def network(x, lengths):
        return _mean(_written_into_a_number(EMBED(x), lengths), lengths)

    torch.set_default_dtype(torch.float64)
    try:
        assert_as_alone(network, TOKENS[:3], lengths, target=1, channel_dim=2)
    finally:
        torch.set_default_dtype(torch.float32)


WEIGHTS = torch.rand(15, 5).double()


def _windows(x):
    windows = EMBED(x).unfold(1, 3, 1).reshape(-1, 15)
    return HEAD((windows @ WEIGHTS).tanh().view(len(x), -1, 5).sum(1))


def _as_many_steps_as_samples(x):
    steps = EMBED(x[:, :3]).transpose(0, 1)
    steps = torch.cat([torch.ones_like(steps[:1]), steps])
    return HEAD(CONV(steps.permute(1, 2, 0)).mean(2))


def _heads(x, *shape):
    parts = EMBED(x)[..., :4].reshape(shape).sigmoid()  # two of each step
    return (parts.reshape(-1, 2) @ WEIGHTS[:2, :2]).tanh().reshape(len(x), -1, 4).mean(1)


def _copies(x):
    copies = EMBED(x).reshape(-1, 5).repeat_interleave(2, 0)  # as for two experts
    return HEAD(copies).sigmoid().reshape(len(x), -1, 2).mean(1)


def _queries_of_the_whole_image(x, *order):
    """As in GCViT: a query for each position in a window, which is the same in all windows."""
    windows = EMBED(x).unflatten(1, (3, 2)).permute(order)
    queries = F.avg_pool1d(EMBED(x).mT, 3).mT.unsqueeze(1).expand(-1, 3, -1, -1).permute(order)
    parts = F.scaled_dot_product_attention(
        *(each.reshape(-1, 2, 5) for each in (queries, windows, windows))
    )
    return HEAD(CONV(parts.mT).mT).reshape(*windows.shape[:3], 2).permute(order).mean((1, 2))


MERGED = {
    "windows": _windows,
    "as many steps as samples": _as_many_steps_as_samples,
    "heads": lambda x: _heads(x, -1, 2),
    "heads and one": lambda x: _heads(x, -1, 2, 1),
    "one and heads": lambda x: _heads(x, -1, 1, 2),
    "copies": _copies,
    "queries of the whole image": lambda x: _queries_of_the_whole_image(x, 0, 1, 2, 3),
    "samples behind the queries": lambda x: _queries_of_the_whole_image(x, 1, 0, 2, 3),
}


@pytest.mark.parametrize("samples", [4, 3, 6])
@pytest.mark.parametrize("network", MERGED.values(), ids=MERGED)
def test_steps_that_are_merged_with_the_samples(network, samples):
    assert_as_alone(network, TOKENS[:samples], target=1, channel_dim=2)


@pytest.mark.parametrize("join", ["written", "concatenated", "selected"])
def test_a_mean_of_the_steps_in_place_of_one_of_them(join):
    """As the token with global attention in Longformer: the mean of a full sample has no place."""
    first = (torch.arange(6) == 0)[:, None]

    def network(x, lengths):
        h = EMBED(x)
        mean = _masked(h, lengths).sum(1, keepdim=True) / lengths[:, None, None]
        if join == "written":
            h = h.clone()
            h[:, :1] = mean
        elif join == "concatenated":
            h = torch.cat([mean, h[:, 1:]], 1)
        else:
            h = torch.where(first, mean, h)
        return HEAD(h).tanh()[:, :2].sum(1)

    assert_as_alone(network, TOKENS[:3], torch.tensor([6, 4, 2]), target=1, channel_dim=2)


@pytest.mark.parametrize("pooled", [lambda h: F.max_pool1d(h, 1, 2), lambda h: F.avg_pool1d(h, 2)])
def test_pooled_crops_that_start_elsewhere_in_each_sample_have_no_gaps(pooled):
    inputs = torch.rand(2, 1, 9).double()

    def network(x):
        return pooled(torch.stack([x[0, :, :8], x[1, :, 1:]])).sigmoid().sum((1, 2))

    (found,) = (each.positive for each in TGradAttribution(network).decompose(inputs).biases)
    assert (found[0, 0, :8] > 0).all()
    assert (found[1, 0, 1:] > 0).all()
