"""Masked elements do not count in sums; elements between zeros have the map of the mask."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import (
    AGGREGATIONS,
    assert_as_alone,
    assert_complete,
    assert_same_maps,
    filled,
    randn,
)

LENGTHS = torch.tensor([3, 5, 8, 1])
KEPT = {
    "padding": [range(3), range(5), range(8), range(1)],
    "padding and the first": [range(1, 3), range(1, 5), range(1, 8), range(1, 2)],
    "two of them": [[0, 7], [2, 7], [5, 7], [6, 7]],
    "many": [[0, 2, 4, 5, 7], range(5), range(1, 7), range(2, 7)],
}
"""The elements of each sample that are not masked."""
BOXES = torch.tensor([[0, 4, 2, 7], [1, 6, 0, 8], [2, 3, 3, 5]])
"""The first row, the last row + 1, the first column and the last column + 1."""


def _written(h, mask, copy=True):
    h = h.clone() if copy else h
    h[~mask] = 0.0
    return h


def _times_in_place(h, mask):
    h = h.clone()
    h *= mask[..., None]
    return h


def _crops(h, boxes):
    return torch.stack(
        [h[i, :, a:b, c:d].sum((1, 2)) for i, (a, b, c, d) in enumerate(boxes.tolist())]
    )


def _padded_crops(h, mask):
    padded = []
    for one, kept in zip(h, mask[:, 0], strict=True):
        rows, columns = (kept.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
        crop = one[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        padded.append(F.pad(crop, (columns[0], 7 - columns[-1], rows[0], 5 - rows[-1])))
    return torch.stack(padded)


def _pasted(h, mask):
    canvas = torch.zeros_like(h)
    kept = mask.expand_as(h)
    canvas[kept] = h[kept]
    return canvas


OF_TOKENS = {
    "product": lambda h, m: (h * m[..., None]).sum(1),
    "mask first": lambda h, m: (m[..., None] * h).sum(1),
    "mask of all channels": lambda h, m: (h * m[..., None].expand_as(h)).sum(1),
    "mean": lambda h, m: (h * m[..., None]).mean(1) * 8,
    "in place": lambda h, m: _times_in_place(h, m).sum(1),
    "masked_fill": lambda h, m: h.masked_fill(~m[..., None], 0).sum(1),
    "where": lambda h, m: torch.where(m[..., None], h, 0.0).sum(1),
    "otherwise": lambda h, m: torch.where(~m[..., None], h.new_zeros(()), h).sum(1),
    "written": lambda h, m: _written(h, m).sum(1),
    "transposed": lambda h, m: (h * m[..., None]).mT.sum(2),
    "pooling": lambda h, m: F.adaptive_avg_pool1d((h * m[..., None]).mT, 1)[..., 0] * 8,
    "window": lambda h, m: F.avg_pool1d((h * m[..., None]).mT, 8)[..., 0] * 8,
    "masked twice": lambda h, m: (h.masked_fill(~m[..., None], 0) * m[..., None]).sum(1),
    "scaled": lambda h, m: (-(h * m[..., None]) / 2).sum(1) * -2,
    "rectified": lambda h, m: F.relu(h * m[..., None]).sum(1) - F.relu(-h * m[..., None]).sum(1),
    "matrix product": lambda h, m: (m[:, None].to(h) @ h)[:, 0],
    "column": lambda h, m: (h.mT @ m[..., None].to(h))[..., 0],
    "einsum": lambda h, m: torch.einsum("ntc,nt->nc", h, m.to(h)),
    "in einsum": lambda h, m: torch.einsum("ntc->nc", h * m[..., None]),
    "added": lambda h, m: h.new_zeros(len(h), 5).index_add(0, m.nonzero()[:, 0], h[m]),
}

OF_IMAGES = {
    "product": lambda h, m: (h * m).sum((2, 3)),
    "rows first": lambda h, m: (h * m).sum(3).sum(2),
    "columns first": lambda h, m: (h * m).sum(2).sum(2),
    "pooling": lambda h, m: F.adaptive_avg_pool2d(h * m, 1)[..., 0, 0] * 48,
    "window": lambda h, m: F.avg_pool2d(h * m, (6, 8))[..., 0, 0] * 48,
    "flat": lambda h, m: (h * m).flatten(2).sum(2),
    "flat mask": lambda h, m: (h.flatten(2) * m.flatten(2)).sum(2),
    "masked_fill": lambda h, m: h.masked_fill(~m, 0).sum((2, 3)),
    "written": lambda h, m: _written(h, m.expand_as(h)).sum((2, 3)),
    "crops padded": lambda h, m: _padded_crops(h, m).sum((2, 3)),
    "pasted": lambda h, m: _pasted(h, m).sum((2, 3)),
    "pasted and turned": lambda h, m: _pasted(h, m).mT.flip(2).sum((2, 3)),
    "channels last": lambda h, m: (h * m).permute(0, 2, 3, 1).sum((1, 2)),
    "matrix product": lambda h, m: (h.flatten(2) @ m.flatten(2).mT.to(h))[..., 0],
    "einsum": lambda h, m: torch.einsum("nchw,nhw->nc", h, m[:, 0].to(h)),
    "sample by sample": lambda h, m: torch.stack(
        [(h[i] * m[i]).sum((1, 2)) for i in range(len(h))]
    ),
    "chosen": lambda h, m: torch.stack([h[i][:, m[i, 0]].sum(1) for i in range(len(h))]),
}


HEAD = filled(nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 2)).double())
TOKENS, OF_TOKEN = randn(4, 8, 3), filled(nn.Linear(3, 5).double(), seed=4)
IMAGES, OF_IMAGE = randn(3, 3, 6, 8), filled(nn.Conv2d(3, 5, 3, padding=1).double(), seed=6)


def _compare(embed, form, plain, inputs, mask, further, **options):
    """``form`` takes the mask, and ``plain`` the other argument for each sample."""

    def network(pool):
        return lambda x, *arguments: HEAD(pool(embed(x).tanh(), *arguments))

    assert_as_alone(network(form), inputs, mask, target=1, **options)
    assert_same_maps(
        network(lambda h: form(h, mask)), network(lambda h: plain(h, further)), inputs, 1, **options
    )


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("form", OF_TOKENS.values(), ids=OF_TOKENS)
def test_tokens(form, kept):
    mask = torch.stack([torch.isin(torch.arange(8), torch.tensor(own)) for own in KEPT[kept]])

    def chosen(h, mask):
        return torch.stack([h[i, mask[i]].sum(0) for i in range(len(h))])

    # By levels, sums of two tokens depend on those of the other samples.
    by = ("paper",) if kept == "two of them" else AGGREGATIONS
    _compare(OF_TOKEN, form, chosen, TOKENS, mask, mask, aggregations=by, channel_dim=-1)


@pytest.mark.parametrize(
    ("subtract", "add"),
    [
        (lambda h: h - 0.5, lambda h: h + -0.5),
        (lambda h: h - HEAD[0].bias, lambda h: h + -HEAD[0].bias),
        (lambda h: 0.5 - h, lambda h: 0.5 + h * -1),
    ],
    ids=["number", "parameter", "from a number"],
)
def test_masks_of_a_difference_are_those_of_a_sum(subtract, add):
    mask = (torch.arange(8) < LENGTHS[:, None])[..., None]

    def network(shifted):
        return lambda x: HEAD(shifted(OF_TOKEN(x).tanh() * mask).sum(1))

    assert_same_maps(network(subtract), network(add), TOKENS, 1, channel_dim=-1)


@pytest.mark.parametrize(
    "masked",
    [
        lambda h: h.masked_fill(torch.zeros(8, 1) > 0, 0),
        lambda h: torch.where(torch.ones(8, 1) > 0, h, 0.0),
        lambda h: h * torch.ones(8, 1),
    ],
    ids=["fill", "where", "product"],
)
def test_a_mask_that_hides_nothing_is_none(masked):
    def network(masked):
        return lambda x: HEAD(
            F.pad(masked(OF_TOKEN(x).tanh()), (0, 0, 2, 0)).cumsum(1).tanh().sum(1)
        )

    assert_same_maps(network(masked), network(lambda h: h), TOKENS, 1, channel_dim=-1)


def _scores(h, mask):
    return h[..., :2].tanh().sum(2).masked_fill(~mask, -torch.inf)


QUERIES = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
BIASES = torch.linspace(1, 2, 16).double().reshape(2, 8)
"""Added to the scores of two queries and eight keys."""


def _attention(h, mask):
    return F.scaled_dot_product_attention(QUERIES[:1].expand(len(h), 1, 5), h, h, mask)[:, 0]


def _of_queries(h, mask):
    return F.scaled_dot_product_attention(QUERIES.expand(len(h), -1, -1), h, h, mask).sum(1)


ATTENTION_POOLING = {
    "product": lambda h, m: (h * F.softmax(_scores(h, m), 1)[..., None]).sum(1),
    "weights first": lambda h, m: (F.softmax(_scores(h, m), 1)[..., None] * h).sum(1),
    "weights times mask": lambda h, m: (F.softmax(_scores(h, m), 1) * m)[..., None].mul(h).sum(1),
    "mask added": lambda h, m: (
        h * F.softmax(_scores(h, m | ~m) + torch.where(m, 0, -1e9), 1)[..., None]
    ).sum(1),
    "matrix product": lambda h, m: (F.softmax(_scores(h, m), 1)[:, None] @ h)[:, 0],
    "column": lambda h, m: (h.mT @ F.softmax(_scores(h, m), 1)[..., None])[..., 0],
    "einsum": lambda h, m: torch.einsum("nt,ntc->nc", F.softmax(_scores(h, m), 1), h),
    "one query": lambda h, m: _attention(h, m[:, None]),
    "number as mask": lambda h, m: _attention(h, torch.where(m[:, None], 0, -1e9).to(h)),
    "several queries": lambda h, m: _of_queries(h, m[:, None]),
    "mask of several queries": lambda h, m: _of_queries(h, m[:, None].expand(-1, 2, -1)),
    "biases of several queries": lambda h, m: _of_queries(
        h, BIASES[:, : h.shape[1]].where(m[:, None], -torch.inf)
    ),
    "weights of several queries": lambda h, m: (
        (QUERIES @ h.mT).masked_fill(~m[:, None], -torch.inf).softmax(-1) @ h
    ).sum(1),
}


@pytest.mark.parametrize("form", ATTENTION_POOLING.values(), ids=ATTENTION_POOLING)
def test_attention_pooling(form):
    def parts(h, lengths):
        each = [h[i : i + 1, :length] for i, length in enumerate(lengths)]
        return torch.cat([form(one, torch.ones(1, one.shape[1]) > 0) for one in each])

    mask = torch.arange(8) < LENGTHS[:, None]
    _compare(OF_TOKEN, form, parts, TOKENS, mask, LENGTHS, channel_dim=-1)


@pytest.mark.parametrize("form", OF_IMAGES.values(), ids=OF_IMAGES)
def test_images(form):
    rows, columns = torch.arange(6)[:, None], torch.arange(8)
    top, bottom, left, right = BOXES.T[..., None, None]
    mask = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    # A sum of the columns of a box that is as wide as the image is at all columns.
    own = [0, 2] if form is OF_IMAGES["rows first"] else [0, 1, 2]
    given = IMAGES[own], mask[own, None], BOXES[own]
    _compare(OF_IMAGE, form, _crops, *given, aggregations=["paper"])


@pytest.mark.parametrize("position", [0, 1])
def test_a_token_that_adds_the_mean_of_the_others_to_itself_is_at_its_own_position(position):
    inputs, lengths = torch.randn(3, 8, 5).double(), torch.tensor([3, 5, 8])
    masks = (torch.arange(8) < lengths[:, None])[..., None].double()
    mix, head = nn.Linear(5, 5).double(), nn.Linear(5, 2).double()

    def network(x, mask):
        h = x.tanh()
        mean = (h * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        h = torch.cat([h[:, :position], mean, h[:, position + 1 :]], 1)
        return head((x + mix(h)).tanh()[:, position])

    method = TGradAttribution(network)
    together = method.attribute(inputs, 1, masks, channel_dim=-1)
    for i, length in enumerate(lengths):
        alone = method.attribute(
            inputs[i : i + 1, :length], 1, masks[i : i + 1, :length], channel_dim=-1
        )
        torch.testing.assert_close(together[i : i + 1, :length], alone, rtol=1e-10, atol=1e-12)


def test_zeros_written_into_a_view_of_frames_have_the_map_of_the_mask():
    inputs, lengths = torch.randn(2, 1, 12).double(), torch.tensor([12, 7])
    mask = (torch.arange(12) < lengths[:, None])[..., None]
    frames, head = nn.Conv1d(1, 5, 4, padding=2).double(), nn.Linear(5, 2).double()

    def network(masked):
        def forward(x):
            h = frames(x)[..., :-1].mT.flatten(0, 1).clone().view(2, 12, 5)
            return head((masked(h).sum(1) / lengths[:, None]).tanh())

        return forward

    form = network(lambda h: _written(h, mask[..., 0], copy=False))
    found = assert_same_maps(form, network(lambda h: h.masked_fill(~mask, 0)), inputs, 1)
    assert float(found.map("all")[1, :, 8:].abs().max()) == 0


def test_zeros_written_into_each_sample():
    def written(h, boxes):
        h = h.clone()
        for i, (a, b, c, d) in enumerate(boxes.tolist()):
            h[i, :, :a] = h[i, :, b:] = 0
            h[i, ..., :c] = h[i, ..., d:] = 0
        return h.sum((2, 3))

    _compare(OF_IMAGE, written, _crops, IMAGES, BOXES, BOXES)


def test_the_largest_of_the_tokens_that_a_mask_keeps():
    """The bias 3 is divided between the two tokens of which the largest one is taken."""

    def network(x):
        mask = torch.tensor([True, True, False, False])[:, None]
        return x.masked_fill(~mask, -torch.inf).amax(1) + 3

    found = TGradAttribution(network).attribute(
        torch.tensor([[[1.0], [2.0], [9.0], [4.0]]]), channel_dim=-1
    )
    torch.testing.assert_close(found.flatten(), torch.tensor([1.5, 2 + 1.5, 0, 0]))


def test_masked_elements_keep_their_places_until_they_are_summed():
    """A convolution of a masked image has a bias at each pixel, also where the image is masked."""
    mask = torch.tensor([1.0, 1, 0, 0])

    def network(x):
        return ((x * mask + 1) * torch.tensor([1.0, 2, 3, 4])).sum((1, 2))

    found = TGradAttribution(network).attribute(torch.ones(1, 1, 4), sign="all")
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 4, 3, 4]))


def test_a_convolution_of_all_elements_leaves_out_those_of_the_current_mask():
    """The bias 3 is divided among the two elements that are not masked."""
    weight, bias = torch.ones(1, 1, 4).double(), torch.tensor([3.0]).double()
    x = torch.rand(1, 1, 4, generator=torch.Generator().manual_seed(0)).double()
    for mask in torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]).double():
        convolved = TGradAttribution(lambda x, m=mask: F.conv1d(x * m, weight, bias).flatten())
        torch.testing.assert_close(convolved.attribute(x), (x + 3 / 2) * mask)


def _between_zeros(h, start, stop):
    sizes = start, 8 - stop
    left, right = (h.new_zeros(*h.shape[:2], size) for size in sizes)
    return torch.cat([left, h[..., start:stop], right], 2)


def _row(h, start, stop):
    return torch.arange(start, stop).expand(*h.shape[:2], -1)


BETWEEN_ZEROS = {
    "cat": _between_zeros,
    "pad": lambda h, i, j: F.pad(h[..., i:j], (i, 8 - j)),
    "slice_scatter": lambda h, i, j: torch.zeros_like(h).slice_scatter(h[..., i:j], 2, i, j),
    "index_copy": lambda h, i, j: torch.zeros_like(h).index_copy(
        2, torch.arange(i, j), h[..., i:j]
    ),
    "index_add": lambda h, i, j: torch.zeros_like(h).index_add(2, torch.arange(i, j), h[..., i:j]),
    "scatter": lambda h, i, j: torch.zeros_like(h).scatter(2, _row(h, i, j), h[..., i:j]),
    "stack": lambda h, i, j: torch.stack(
        [h[..., k] if i <= k < j else torch.zeros_like(h[..., k]) for k in range(8)], 2
    ),
    "matrix": lambda h, i, j: h @ torch.diag(_mask(i, j).to(h)),
}


def _mask(start, stop):
    return (torch.arange(8) >= start) & (torch.arange(8) < stop)


@pytest.mark.parametrize(("start", "stop"), [(3, 4), (0, 1), (7, 8), (2, 5)])
@pytest.mark.parametrize("form", BETWEEN_ZEROS.values(), ids=BETWEEN_ZEROS)
def test_elements_between_zeros_have_the_map_of_the_mask(form, start, stop):
    """Also a single one, whose position has to stay apart from that of the zeros."""
    first, second = (nn.Conv1d(*sizes, 3, padding=1).double() for sizes in ((3, 5), (5, 6)))
    head = nn.Linear(48, 2).double()

    def network(masked):
        return lambda x: head(second(masked(first(x).tanh())).tanh().flatten(1))

    assert_same_maps(
        network(lambda h: form(h, start, stop)),
        network(lambda h: h * _mask(start, stop)),
        torch.rand(2, 3, 8).double(),
        1,
    )


REPLACED = {
    "cat": lambda h: torch.cat([h[..., :3], torch.full_like(h[..., 3:5], 2.0), h[..., 5:]], 2),
    "written": lambda h: _set(h, (..., slice(3, 5)), 2.0),
    "pad": lambda h: F.pad(h[..., :-3], (0, 3)),
}


@pytest.mark.parametrize("form", REPLACED.values(), ids=REPLACED)
def test_constants_in_a_padded_sequence_have_the_cells_of_the_elements_that_they_replace(form):
    weight = torch.rand(3, 10).double()
    x = torch.rand(1, 3, 8).double()

    def replaced(x):
        return form(F.pad(x, (1, 1)))

    method = TGradAttribution(lambda x: (replaced(x).square() * weight).sum((1, 2)))
    found = method.decompose(x)["square"].maps[0]
    wanted = -(replaced(x).square() * weight).sum(1)
    torch.testing.assert_close((found.positive - found.negative)[:, 0], wanted[:, 1:-1])


@pytest.mark.parametrize("stride", [1, 2])
def test_zeros_between_rows_before_a_convolution_have_the_map_of_the_mask(stride):
    first, second = (nn.Conv2d(3, 3, 3, step, 1).double() for step in (1, stride))
    shown = (torch.arange(8) % 2 == 0)[:, None]

    def network(form):
        return lambda x: second(form(first(x).tanh())).tanh().sum((1, 2, 3))

    assert_same_maps(
        network(lambda h: _set(h, (..., slice(1, None, 2), slice(None)))),
        network(lambda h: h * shown),
        torch.ones(1, 3, 8, 8).double(),
    )


def _set(h, where, value=0.0):
    h = h.clone()
    h[where] = value
    return h


def _without_rest(h, write):
    h = h.clone()
    write(h[:, 5:])
    return h


SHOWN = torch.arange(8) < 5
FIRST_FIVE = {
    "product": lambda h: h * SHOWN[:, None],
    "masked_fill": lambda h: h.masked_fill(~SHOWN[:, None], 0),
    "where": lambda h: torch.where(SHOWN[:, None], h, 0.0),
    "slice": lambda h: _set(h, (slice(None), slice(5, 8))),
    "positions": lambda h: _set(h, (slice(None), [5, 6, 7])),
    "mask": lambda h: _set(h, (slice(None), ~SHOWN)),
    "slice of zeros": lambda h: _set(torch.zeros_like(h), (slice(None), slice(5)), h[:, :5]),
    "mask of zeros": lambda h: _set(torch.zeros_like(h), (slice(None), SHOWN), h[:, SHOWN]),
    "index_copy": lambda h: torch.zeros_like(h).index_copy(1, torch.arange(5), h[:, :5]),
    "pad": lambda h: F.pad(h[:, :5], (0, 0, 0, 3)),
    "cat": lambda h: torch.cat([h[:, :5], h.new_zeros(len(h), 3, 1)], 1),
    "matrix": lambda h: torch.diag(SHOWN.to(h)) @ h,
    "zero_": lambda h: _without_rest(h, torch.Tensor.zero_),
    "fill_": lambda h: _without_rest(h, lambda rest: rest.fill_(0)),
    "copy_": lambda h: _without_rest(h, lambda rest: rest.copy_(torch.zeros_like(rest))),
    "mul_": lambda h: _without_rest(h, lambda rest: rest.mul_(torch.zeros(3, 1).to(rest))),
}
ORDER = torch.tensor([6, 2, 0, 7, 4, 1, 3, 5])
MOVED = {
    "nothing": lambda h: h,
    "index": lambda h: h[:, ORDER],
    "gather": lambda h: h.gather(1, ORDER[None, :, None].expand(h.shape)),
    "matrix": lambda h: torch.eye(8)[ORDER].to(h) @ h,
    "flip": lambda h: h.flip(1).mT.contiguous().mT,
    "class token": lambda h: torch.cat([h.new_zeros(len(h), 1, 1), h], 1),
    "class token written": lambda h: _set(
        _set(h.new_ones(len(h), 9, 1), (slice(None), slice(1, 9)), h), (slice(None), 0)
    ),
    "one by one": lambda h: torch.stack(h.unbind(1)[::-1], 1),
    "parts": lambda h: torch.cat([h[:, 4:], h[:, :4]], 1),
    "twice": lambda h: _set(h * SHOWN[:, None], (slice(None), slice(6, 8))),
}


@pytest.mark.parametrize("move", MOVED.values(), ids=MOVED)
@pytest.mark.parametrize("form", FIRST_FIVE.values(), ids=FIRST_FIVE)
def test_tokens_are_masked_until_they_are_summed(form, move):
    """The bias 3 is divided among the five tokens in the sum, and tanh(x) is at its token."""
    x = torch.rand(2, 8, 1, generator=torch.Generator().manual_seed(0)).double()
    found = TGradAttribution(lambda x: move(form(x)).tanh().sum(1) + 3).attribute(
        x, sign="all", channel_dim=-1
    )
    torch.testing.assert_close(found, (x.tanh() + 3 / 5) * SHOWN[:, None])


@pytest.mark.parametrize("form", FIRST_FIVE.values(), ids=FIRST_FIVE)
@pytest.mark.parametrize("operation", ["linear", "cumsum", "rnn", "attention", "conv1d"])
def test_operations_on_masked_tokens(form, operation):
    layer = nn.Linear(1, 4).double()
    rnn = nn.RNN(4, 4, batch_first=True).double()
    attention = nn.MultiheadAttention(4, 2, batch_first=True).double()
    convolution = nn.Conv1d(4, 4, 3, padding=1).double()
    run = {
        "linear": lambda h: layer(h),
        "cumsum": lambda h: layer(h.cumsum(1)),
        "rnn": lambda h: rnn(layer(h))[0],
        "attention": lambda h: attention(*[layer(h)] * 3, need_weights=False)[0],
        "conv1d": lambda h: convolution(layer(h).mT).mT,
    }[operation]

    def network(masked):
        return lambda x: (run(masked(x)).tanh() * 2).sum((1, 2)) + 3

    x, plain = torch.rand(2, 8, 1).double(), network(FIRST_FIVE["product"])
    assert_same_maps(network(form), plain, x, channel_dim=-1)


def test_sums_over_windows_do_not_know_masks():
    """A mean of patches has the map of a pooling."""
    x, mask = torch.rand(2, 3, 8, 8).double(), (torch.arange(64) % 5 > 1).view(8, 8)

    def network(pool):
        return lambda x: pool((x * mask).tanh()).tanh().sum((1, 2, 3))

    for pool in (
        lambda h: h.unflatten(3, (4, 2)).mean(4).unflatten(2, (4, 2)).mean(3),
        lambda h: h.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)),
        lambda h: F.unfold(h, 2, stride=2).view(2, 3, 4, 4, 4).mean(2),
        lambda h: F.pixel_unshuffle(h, 2).view(2, 3, 4, 4, 4).mean(2),
    ):
        assert_same_maps(network(pool), network(lambda h: F.avg_pool2d(h, 2)), x)


def test_attention_in_blocks_of_queries():
    """Each query stays at its position, also if all keys that its block sees are near."""
    row, column = torch.arange(16) // 4, torch.arange(16) % 4
    near = ((row[:, None] - row).abs() <= 1) & ((column[:, None] - column).abs() <= 1)
    x, layer = torch.rand(2, 3, 4, 4).double(), nn.Linear(3, 4).double()

    def whole(q):
        return F.scaled_dot_product_attention(q, q, q, near)

    def in_blocks(q):
        parts = zip(q.split(3, 1), near.split(3), strict=True)
        return torch.cat([F.scaled_dot_product_attention(p, q, q, m) for p, m in parts], 1)

    def placed(attention):
        method = TGradAttribution(lambda x: attention(layer(x.flatten(2).mT)).square().sum((1, 2)))
        tokens = method.decompose(x)["square"]
        return tokens.positive - tokens.negative

    torch.testing.assert_close(placed(in_blocks), placed(whole))


class _ComparedElements(TorchDispatchMode):
    """Counts the elements of the largest comparison."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.ne, torch.ops.aten.bitwise_or):
            self.most = max(self.most, result.numel())
        return result


def test_the_scale_of_a_batch_norm_is_no_mask():
    """A product with a gate compares no activation with zero."""
    convolution, norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8).eval()

    def network(x):
        h = F.silu(norm(convolution(x)))
        return (h * h.mean((2, 3), keepdim=True).sigmoid()).flatten(2).mean(2)

    # So large that the network is recorded, with the batch norm as a product and a sum.
    x = torch.rand(1, 3, 514, 514, generator=torch.Generator().manual_seed(0))
    with _ComparedElements() as compared:
        decomposed = TGradAttribution(network).decompose(x, target=1)
    assert compared.most < 8 * 512 * 512
    torch.testing.assert_close(decomposed.delta, torch.zeros(1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 2.0])
def test_a_batch_norm_masks_channels_only_if_their_scale_is_zero(scale):
    norm = nn.BatchNorm2d(4).double().eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1, scale, -1, 3]))
        norm.bias.copy_(torch.tensor([0.5, -1, 2, 0]))
    convolution = nn.Conv2d(3, 4, 3).double()

    def network(norm):
        return lambda x: F.adaptive_avg_pool2d(norm(convolution(x)).tanh(), 1).sum((1, 2, 3))

    def written(h):
        return torch.stack([w * h[:, i] / (1 + norm.eps) ** 0.5 + b for i, (w, b) in shown], 1)

    shown = list(enumerate(zip(norm.weight.detach(), norm.bias.detach(), strict=True)))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    one, other = (TGradAttribution(network(each)).decompose(x)["tanh"] for each in (norm, written))
    torch.testing.assert_close(one.positive, other.positive)
    torch.testing.assert_close(one.negative, other.negative)


@pytest.mark.parametrize("by", ["topk", "sort"])
def test_the_largest_of_masked_scores_have_the_map_of_their_indices(by):
    mask = torch.arange(8) < LENGTHS[:, None]

    def largest(scores):
        return scores.topk(4).values if by == "topk" else scores.sort(descending=True).values

    def gathered(scores):
        found = scores.topk(4) if by == "topk" else scores.sort(descending=True)
        return scores.gather(1, found.indices)

    def network(pick):
        def forward(x):
            scores = OF_TOKEN(x).tanh().square().sum(2) * mask
            return HEAD(pick(scores).tanh().sum(1, keepdim=True).expand(-1, 5))

        return forward

    assert_same_maps(network(largest), network(gathered), TOKENS, 1, channel_dim=-1)


COLUMNS = torch.arange(8) < 5


def _turned(h):
    rows, columns = (torch.linspace(1 / n - 1, 1 - 1 / n, n).to(h) for n in h.shape[2:])
    points = torch.stack(torch.meshgrid(-columns, rows, indexing="xy"), -1)
    return F.grid_sample(h, points.expand(len(h), -1, -1, -1), "nearest", align_corners=False)


def _as_strided(h):
    *sizes, rows, columns = h.stride()
    return h.as_strided(h.mT.shape, (*sizes, columns, rows))


def _through_sparse(h):
    """Of the first columns only."""
    kept = COLUMNS.expand(h.shape)
    return torch.sparse_coo_tensor(
        kept.nonzero().T, h[kept], h.shape, check_invariants=True
    ).to_dense()


def _complex(h):
    return torch.view_as_complex(h.unflatten(2, (-1, 2)).mT.contiguous())


def _real(h):
    return torch.view_as_real(h).mT.flatten(2, 3)


MASKED_AND_MOVED = {
    "grid_sample": lambda h: _turned(h * COLUMNS).flip(3),
    "as_strided": lambda h: _as_strided(h * COLUMNS).neg().neg().mT,
    "sparse": _through_sparse,
    "sparse of masked": lambda h: _through_sparse(h * COLUMNS),
    "as complex": lambda h: _real(_complex(h * COLUMNS) * 1j * -1j),
    "copied complex": lambda h: _real(_complex(h * COLUMNS).clone()),
    "masked complex": lambda h: _real(_complex(h) * COLUMNS),
    "written complex": lambda h: _real(_written(_complex(h), COLUMNS.expand(3, 5, 3, 8))),
    "written parts": lambda h: _real(_written_parts(_complex(h), COLUMNS.expand(3, 5, 3, 8))),
}


def _written_parts(h, mask):
    h = h.clone()
    torch.view_as_real(h)[~mask] = 0.0
    return h


@pytest.mark.parametrize("form", MASKED_AND_MOVED.values(), ids=MASKED_AND_MOVED)
def test_images_are_masked_after_they_are_moved(form):
    def network(masked):
        return lambda x: HEAD(masked(OF_IMAGE(x).tanh()).tanh().sum((2, 3)))

    assert_same_maps(network(form), network(lambda h: h * COLUMNS), IMAGES, 1)


def test_as_strided_of_a_part_of_a_masked_image():
    """It may read memory beside the part, so its places are lost."""

    def network(x):
        part = (OF_IMAGE(x).tanh() * COLUMNS)[..., :6]
        return HEAD(part.as_strided(part.shape, part.stride()).tanh().sum((2, 3)))

    with pytest.warns(UserWarning, match="as_strided"):
        assert_complete(TGradAttribution(network).decompose(IMAGES[:1], 1))


def test_a_sum_of_masked_complex_numbers_leaves_out_the_masked_ones():
    def network(pool):
        return lambda x: HEAD(pool((OF_IMAGE(x).tanh() * COLUMNS).tanh()))

    def summed(h):
        total = _complex(h).sum((2, 3))
        return total.real + total.imag

    assert_same_maps(network(summed), network(lambda h: h.sum((2, 3))), IMAGES, 1)
