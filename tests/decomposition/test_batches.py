"""The map of a sample in a batch is that of the sample alone, also if only some are padded."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import rnn

from captum_tgrad import TGradAttribution

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


def _assert_as_alone(network, inputs, further, channel_dim=1, target=1, **options):
    """Each map of a batch is that of the sample alone, and all terms add up."""
    method = TGradAttribution(network)
    options = {"channel_dim": channel_dim, "return_convergence_delta": True, **options}
    for sign in ("positive", "negative"):
        together, delta = method.attribute(inputs, target, further, sign=sign, **options)
        torch.testing.assert_close(delta, torch.zeros_like(delta), rtol=0, atol=1e-12)
        for sample in range(len(inputs)):
            part = slice(sample, sample + 1)
            alone, _ = method.attribute(inputs[part], target, further[part], sign=sign, **options)
            torch.testing.assert_close(together[part], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize("lengths", [[4, 6, 2], [4, 6], [3, 5, 4, 1, 2, 6]], ids=str)
@pytest.mark.parametrize("read", [_mean, _each_step, _convolved, _largest])
@pytest.mark.parametrize("pad", PADDED)
def test_padding_of_some_samples(pad, read, lengths, aggregation):
    # By levels, terms of one cell are left out, unless other samples have several.
    least = 2 if pad is _scattered or aggregation == "levels" else 1
    lengths = torch.tensor(lengths).clamp_min(least)

    def network(x, lengths):
        return read(pad(EMBED(x), lengths), lengths)

    _assert_as_alone(
        network, TOKENS[: len(lengths)], lengths, channel_dim=2, aggregation=aggregation
    )


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

    _assert_as_alone(network, torch.rand(len(sizes), 2, 8, 8).double(), sizes)


def test_windows_of_different_samples_are_no_sliding_window():
    network = nn.Linear(1, 1).double()
    starts = torch.tensor([0, 1, 2])

    def mean_of_a_window(x, starts):
        parts = zip(x, starts.tolist(), strict=True)
        return network(torch.stack([one[start : start + 3].mean(0) for one, start in parts]))

    _assert_as_alone(mean_of_a_window, torch.rand(3, 10, 1).double(), starts, 2, target=0)


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
        _assert_as_alone(network, TOKENS[:3], lengths, channel_dim=2)
    finally:
        torch.set_default_dtype(torch.float32)


def test_windows_that_are_merged_with_the_samples():
    weights = torch.rand(15, 5).double()

    def network(x, _):
        windows = EMBED(x).unfold(1, 3, 1).reshape(-1, 15)
        return HEAD((windows @ weights).tanh().view(len(x), -1, 5).sum(1))

    _assert_as_alone(network, TOKENS, torch.arange(6), channel_dim=2)


def test_as_many_steps_as_samples_and_steps_first():
    def network(x, _):
        steps = EMBED(x[:, :3]).transpose(0, 1)
        steps = torch.cat([torch.ones_like(steps[:1]), steps])
        return HEAD(CONV(steps.permute(1, 2, 0)).mean(2))

    _assert_as_alone(network, TOKENS[:4], torch.arange(4), channel_dim=2)


@pytest.mark.parametrize("shape", [(-1, 2), (-1, 2, 1), (-1, 1, 2)], ids=str)
@pytest.mark.parametrize("aggregation", ["paper", "levels"])
def test_heads_that_are_merged_with_the_samples(shape, aggregation):
    weights = torch.rand(2, 2).double()

    def network(x, _):
        parts = EMBED(x)[..., :4].reshape(shape).sigmoid()  # two of each step
        return (parts.reshape(-1, 2) @ weights).tanh().reshape(len(x), -1, 4).mean(1)

    _assert_as_alone(network, TOKENS[:3], torch.arange(3), channel_dim=2, aggregation=aggregation)


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
def test_copies_of_steps_that_are_merged_with_the_samples(aggregation):
    def network(x, _):
        copies = EMBED(x).reshape(-1, 5).repeat_interleave(2, 0)  # as for two experts
        return HEAD(copies).sigmoid().reshape(len(x), -1, 2).mean(1)

    _assert_as_alone(network, TOKENS[:3], torch.arange(3), channel_dim=2, aggregation=aggregation)


@pytest.mark.parametrize("sample_first", [True, False])
def test_windows_with_the_queries_of_the_whole_image(sample_first):
    """As in GCViT: a query for each position in a window, which is the same in all windows."""
    order = (0, 1, 2, 3) if sample_first else (1, 0, 2, 3)

    def network(x, _):
        windows = EMBED(x).unflatten(1, (3, 2)).permute(order)
        queries = F.avg_pool1d(EMBED(x).mT, 3).mT.unsqueeze(1).expand(-1, 3, -1, -1).permute(order)
        parts = F.scaled_dot_product_attention(
            *(each.reshape(-1, 2, 5) for each in (queries, windows, windows))
        )
        return HEAD(CONV(parts.mT).mT).reshape(*windows.shape[:3], 2).permute(order).mean((1, 2))

    _assert_as_alone(network, TOKENS[:4], torch.arange(4), channel_dim=2)


def test_a_sum_of_steps_that_each_sample_chooses():
    chosen = torch.tensor([[2, 3, 5], [0, 2, 5]])

    def network(x, steps):
        h = EMBED(x).gather(1, steps[..., None].expand(-1, -1, 5))
        return HEAD(h.sum(1))

    method = TGradAttribution(network)
    options = {"target": 1, "channel_dim": 2}
    together = method.attribute(TOKENS[:2], additional_forward_args=chosen, **options)
    for sample in range(2):
        own = slice(sample, sample + 1)
        alone = method.attribute(TOKENS[own], additional_forward_args=chosen[own], **options)
        torch.testing.assert_close(together[own], alone)


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
@pytest.mark.parametrize("join", ["written", "concatenated", "selected"])
def test_a_mean_of_the_steps_in_place_of_one_of_them(join, aggregation):
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

    lengths = torch.tensor([6, 4, 2])
    _assert_as_alone(network, TOKENS[:3], lengths, channel_dim=2, aggregation=aggregation)
