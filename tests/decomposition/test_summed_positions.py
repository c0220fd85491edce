"""A product whose sum removes all positions has the map of its elements before the sum."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_same_maps, filled, randn

OF_IMAGE = filled(nn.Conv2d(3, 6, 3, padding=1).double())
SCORES = filled(nn.Conv2d(6, 2, 1).double())
QUERIES = torch.linspace(-1, 2, 12).reshape(2, 6).double()
IS_KEPT = torch.arange(30) % 4 != 0
IMAGES = randn(2, 3, 5, 6)
ATTENTION = F.scaled_dot_product_attention


def _pixels(x):
    """Features of each pixel, shape ``(N, 30, 6)``."""
    return torch.tanh(OF_IMAGE(x)).flatten(2).mT


def _weights(x):
    """Two weights of each pixel, which add up to one, shape ``(N, 2, 30)``."""
    return SCORES(torch.tanh(OF_IMAGE(x))).flatten(2).softmax(-1)


def _head(y):
    y = y.flatten(1).tanh()
    return (y * torch.linspace(-1, 2, y.shape[1]).double()).sum(1, keepdim=True)


def _weighted(v, a):
    return (a.unsqueeze(-1) * v.unsqueeze(1)).sum(2)


def _each(form):
    return lambda v, a: torch.stack([form(u, w) for u, w in zip(v, a, strict=True)])


SUMS = {
    "matmul": lambda v, a: a @ v,
    "transposed": lambda v, a: (v.mT @ a.mT).mT,
    "bmm": lambda v, a: torch.bmm(a, v),
    "baddbmm": lambda v, a: torch.baddbmm(torch.zeros(1, 1, 1).double(), a, v),
    "einsum": lambda v, a: torch.einsum("npc,nkp->nkc", v, a),
    "einsum of three": lambda v, a: torch.einsum("npc,nkp,c->nkc", v, a, torch.ones(6).double()),
    "mm": _each(lambda u, w: w.mm(u)),
    "tensordot": _each(lambda u, w: torch.tensordot(w, u, ([1], [0]))),
    "inner": _each(lambda u, w: torch.inner(w, u.mT)),
    "linear": _each(lambda u, w: F.linear(w, u.mT)),
}


@pytest.mark.parametrize("form", SUMS.values(), ids=SUMS)
def test_weighted_sums_of_pixels(form):
    def network(form):
        return lambda x: _head(form(_pixels(x), _weights(x)))

    assert_same_maps(network(form), network(_weighted), IMAGES, 0)


def test_images_of_one_row():
    def network(form):
        return lambda x: _head(form(_pixels(x), _weights(x)))

    assert_same_maps(network(SUMS["bmm"]), network(_weighted), IMAGES[:, :, :1], 0)


WEIGHTED_ELSEWHERE = {
    "shifted": lambda v: v.roll(3, 1),
    "pooled": lambda v: F.avg_pool1d(v.mT, 3).mT,
    "cropped": lambda v: v[:, 6:18],
    "columns": lambda v: v.unflatten(1, (5, 6)).mean(1),
}


@pytest.mark.parametrize("move", WEIGHTED_ELSEWHERE.values(), ids=WEIGHTED_ELSEWHERE)
def test_weights_of_other_positions(move):
    def network(form):
        def forward(x):
            v = move(_pixels(x))
            return _head(form(v, _weights(x)[..., : v.shape[1]]))

        return forward

    assert_same_maps(network(SUMS["matmul"]), network(_weighted), IMAGES, 0)


def test_weights_of_another_input():
    def network(form):
        return lambda x, y: _head(form(_pixels(x), _weights(y)))

    assert_same_maps(network(SUMS["matmul"]), network(_weighted), (IMAGES, IMAGES.flip(2)), 0)


def test_a_vector_of_weights():
    def network(form):
        return lambda x: _head(form(_pixels(x), _weights(x)))

    plain = network(lambda v, a: _weighted(v, a[:, :1]))
    assert_same_maps(network(_each(lambda u, w: u.mT.mv(w[0])[None])), plain, IMAGES, 0)
    assert_same_maps(network(_each(lambda u, w: (w[0] @ u)[None])), plain, IMAGES, 0)


def test_the_elements_of_the_term_are_the_weighted_pixels():
    def network(x):
        return _head(_weights(x) @ _pixels(x))

    found = TGradAttribution(network).decompose(IMAGES, 0)
    (term,) = [each for each in found.biases if each.name == "matmul"]
    v, a = _pixels(IMAGES), _weights(IMAGES)
    y = (a @ v).requires_grad_()
    (gradient,) = torch.autograd.grad(_head(y).sum(), y)
    elements = -gradient[:, :, None] * a[..., None] * v[:, None]
    for own, sign in ((term.positive, 1), (term.negative, -1)):
        wanted = (sign * elements).clamp(min=0).sum((1, 3)).reshape(2, 1, 5, 6)
        torch.testing.assert_close(own, wanted)


def test_weights_of_the_rows_of_an_image():
    def network(form):
        def forward(x):
            rows = _weights(x).unflatten(2, (5, 6)).mean(3)
            return _head(form(_pixels(x).unflatten(1, (5, 6)), rows))

        return forward

    form = network(lambda v, a: torch.einsum("nhwc,nkh->nkc", v, a))
    plain = network(lambda v, a: (a[..., None, None] * v.unsqueeze(1)).sum((2, 3)))
    assert_same_maps(form, plain, IMAGES, 0)


def test_a_factor_that_is_broadcast_along_the_sum():
    def network(form):
        return lambda x: _head(form(_pixels(x), _weights(x).sum(-1, keepdim=True)))

    form = network(lambda v, a: torch.einsum("npc,nkp->nkc", v, a))
    assert_same_maps(form, network(_weighted), IMAGES, 0)


@pytest.mark.parametrize("overwrite", [lambda a: a.mul_(3), lambda a: a.data.mul_(3)])
def test_a_factor_that_is_overwritten_after_the_product(overwrite):
    def network(is_overwritten):
        def forward(x):
            a = _weights(x) * 1
            # Autograd saves a copy of the weights.
            y = a.unsqueeze(1) @ _pixels(x).unflatten(2, (2, 3)).transpose(1, 2)
            if is_overwritten:
                overwrite(a)
            return _head(y)

        return forward

    assert_same_maps(network(True), network(False), IMAGES, 0)


def _attention_in_parts(query, key, value, mask=None):
    scores = (query.unsqueeze(-2) * key.unsqueeze(-3)).sum(-1) / query.shape[-1] ** 0.5
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        scores = scores + mask
    return (scores.softmax(-1).unsqueeze(-1) * value.unsqueeze(-3)).sum(-2)


MASKS = {
    "no mask": None,
    "boolean mask": IS_KEPT[None],
    "mask of numbers": torch.linspace(-1, 1, 30).double()[None],
    "mask of each query": torch.stack([IS_KEPT, ~IS_KEPT]),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_with_learned_queries(mask):
    def network(attention):
        def forward(x):
            v = _pixels(x)
            return _head(attention(QUERIES.expand(len(v), -1, -1), v, v * 2, mask))

        return forward

    assert_same_maps(network(ATTENTION), network(_attention_in_parts), IMAGES, 0)


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:, :, :1]], ids=["image", "row"])
def test_a_query_that_is_the_mean_of_all_pixels(images):
    def network(attention):
        def forward(x):
            v = _pixels(x)
            return _head(attention(v.mean(1, keepdim=True), v, v * 2))

        return forward

    def in_parts(query, key, value):
        scores = (query / query.shape[-1] ** 0.5) @ key.mT
        return (scores.softmax(-1).unsqueeze(-1) * value.unsqueeze(-3)).sum(-2)

    assert_same_maps(network(ATTENTION), network(in_parts), images, 0)


SEES_NO_KEY = torch.stack([IS_KEPT, torch.zeros_like(IS_KEPT)])


@pytest.mark.parametrize("hidden", [SEES_NO_KEY, torch.stack([SEES_NO_KEY, ~SEES_NO_KEY])])
@pytest.mark.parametrize("is_bool", [True, False])
def test_a_query_that_sees_no_key_has_a_result_of_zero(hidden, is_bool):
    finite = torch.zeros(hidden.shape).double().masked_fill(~hidden, -1e9)
    mask = hidden if is_bool else torch.zeros_like(finite).masked_fill(~hidden, -torch.inf)

    def network(attention, mask, seen):
        def forward(x):
            v = _pixels(x)
            return _head(attention(QUERIES.expand(len(v), -1, -1), v, v * 2, mask) * seen)

        return forward

    form = network(ATTENTION, mask, 1)
    plain = network(_attention_in_parts, finite, hidden.any(-1, keepdim=True))
    torch.testing.assert_close(
        TGradAttribution(form).decompose(IMAGES, 0).output, form(IMAGES)[:, 0]
    )
    assert_same_maps(form, plain, IMAGES, 0)


def test_attention_of_which_only_the_keys_depend_on_the_input():
    values = randn(1, 30, 6)

    def network(attention):
        def forward(x):
            keys = _pixels(x)
            return _head(attention(QUERIES.expand(len(keys), -1, -1), keys, values))

        return forward

    assert_same_maps(network(ATTENTION), network(_attention_in_parts), IMAGES, 0)


class LinearAttention(nn.Module):
    """Attention without softmax, as in EfficientViT: keys times values first."""

    def __init__(self, product):
        super().__init__()
        self.of_pixel = nn.Conv2d(3, 12, 1).double()
        self.product = product

    def forward(self, x):
        """Scores, shape ``(N, 1)``."""
        q, k, v = self.of_pixel(x).flatten(2).mT.unflatten(2, (2, 6)).transpose(1, 2).split(2, -1)
        kv = self.product(k.relu().mT, v)
        return _head((q.relu() @ kv).sum(2))


def test_keys_times_values_are_at_their_positions_also_in_a_replay(recorded):
    def in_parts(k, v):
        return (k.unsqueeze(-1) * v.unsqueeze(-3)).sum(-2)

    network, plain = (filled(LinearAttention(each)) for each in (torch.matmul, in_parts))
    found = assert_same_maps(network, plain, IMAGES, 0)
    assert all(term.positive.dim() == 4 for term in found.biases if "matmul" in term.name)
    method = TGradAttribution(network)
    method.decompose(IMAGES, 0)
    del recorded[:]
    again = method.decompose(IMAGES.flip(0), 0)
    assert not recorded
    assert_complete(again)
    torch.testing.assert_close(again.map(), found.map().flip(0))
