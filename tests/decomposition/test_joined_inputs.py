"""Several inputs of one network: each has the map that it has in a network of its own."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, filled, maps_of, randn
from tests.decomposition.test_one_function_one_map import (
    NET,
    NORM,
    OTHER_NET,
    TARGET,
    WIDTH,
    _picture,
    _read,
)

TWO_INPUTS = {
    "sum": lambda f, g, a, b: f(a) + g(b),
    "the_other_first": lambda f, g, a, b: g(b).add_(f(a)),
    "stacked": lambda f, g, a, b: torch.stack([f(a), g(b)]).sum(0),
}


def _written_into_one_tensor(a, b):
    both = a.new_zeros(len(a), 2, *a.shape[1:])
    both[:, 0], both[:, 1] = a, b
    return NET(both.flatten(0, 1)).unflatten(0, (-1, 2)).sum(1)


def _in_groups(a, b):
    def twice(layer, h):
        parts = (torch.cat([each, each]) for each in (layer.weight, layer.bias))
        return F.conv2d(h, *parts, layer.stride, layer.padding, groups=2)

    h = F.relu(twice(NET.b, F.relu(twice(NET.a, torch.cat([a, b], 1)))))
    return sum(_read(h) for h in F.silu(twice(NET.c, h)).chunk(2, 1))


def _in_three_dimensions(a, b):
    h = torch.stack([a, b], 2)
    for layer, activation in ((NET.a, F.relu), (NET.b, F.relu), (NET.c, F.silu)):
        stride, padding = (1, *layer.stride), (0, *layer.padding)
        h = activation(F.conv3d(h, layer.weight.unsqueeze(2), layer.bias, stride, padding))
    return sum(_read(h) for h in h.unbind(2))


def _padded_together(a, b):
    both = F.conv2d(F.pad(torch.cat([a, b]), (1, 1, 1, 1)), NET.a.weight, NET.a.bias)
    return sum(_read(F.silu(NET.c(F.relu(NET.b(F.relu(both)))))).chunk(2))


JOINED = {
    "concatenated": lambda a, b: sum(NET(torch.cat([a, b])).chunk(2)),
    "in_another_order": lambda a, b: sum(NET(torch.cat([b, a])).split(len(a))[::-1]),
    "stacked": lambda a, b: NET(torch.stack([a, b]).flatten(0, 1)).unflatten(0, (2, -1)).sum(0),
    "alternating": lambda a, b: NET(torch.stack([a, b], 1).flatten(0, 1)).view(-1, 2, 5).sum(1),
    "written_into_one_tensor": _written_into_one_tensor,
    "in_groups": _in_groups,
    "in_three_dimensions": _in_three_dimensions,
    "padded_together": _padded_together,
}


def _two_pictures(n):
    return _picture(n), _picture(n + 1)[1:]


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("other", [OTHER_NET, NET], ids=["two_networks", "shared_weights"])
@pytest.mark.parametrize("forward", TWO_INPUTS.values(), ids=TWO_INPUTS)
def test_each_of_two_inputs_has_the_map_of_its_own_network(forward, other, n):
    whole = TGradAttribution(partial(forward, NET, other)).decompose(_two_pictures(n), TARGET)
    for number, (network, x) in enumerate(zip((NET, other), _two_pictures(n), strict=True)):
        for (sign, aggregation, _), alone in maps_of(
            TGradAttribution(network).decompose(x, TARGET)
        ).items():
            found = whole.map(sign, aggregation, number)
            torch.testing.assert_close(found, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("forward", JOINED.values(), ids=JOINED)
def test_inputs_that_share_a_tensor_have_the_maps_of_separate_calls(forward, n):
    assert_same_maps(forward, lambda a, b: NET(a) + NET(b), _two_pictures(n), TARGET)


COMPARE = filled(nn.Conv2d(18, 5, 3, padding=1), seed=70)
FEATURES = {
    "concatenated": lambda a, b: NET.a(torch.cat([a, b])).chunk(2),
    "sliced": lambda a, b: [NET.a(torch.cat([a, b]))[i : i + len(a)] for i in (0, len(a))],
    "stacked": lambda a, b: NET.a(torch.stack([a, b]).flatten(0, 1)).unflatten(0, (2, -1)),
    "alternating": lambda a, b: [NET.a(torch.stack([a, b], 1).flatten(0, 1))[i::2] for i in (0, 1)],
}


@pytest.mark.parametrize("n", [3, 1])
@pytest.mark.parametrize("both", FEATURES.values(), ids=FEATURES)
def test_features_of_joined_inputs_are_at_their_own_input_only(both, n):
    """As in stereo and optical flow networks, which compare shifted features of two images."""

    def forward(a, b, both):
        first, second = map(F.silu, both(a, b))
        shifted = [F.pad(second, (d, 0))[..., : second.shape[3]] for d in range(3)]
        h = torch.cat([first * each for each in shifted], 1)
        return F.relu(F.conv2d(h, COMPARE.weight, COMPARE.bias)).mean((2, 3))

    separate = partial(forward, both=lambda a, b: [NET.a(a), NET.a(b)])
    assert_same_maps(partial(forward, both=both), separate, _two_pictures(n), TARGET)


def test_tokens_of_two_inputs_in_one_sequence_have_the_maps_of_separate_calls():
    first, second = randn(4, WIDTH, seed=60), randn(5, WIDTH, seed=61)
    mix, over = randn(WIDTH, WIDTH, seed=62), randn(9, WIDTH, seed=63)

    def layer(tokens):
        return tokens + F.gelu(NORM(tokens) @ mix + 0.3)

    def joined(a, b):
        return (layer(torch.cat([a @ first, b @ second], 1)) * over).sum((1, 2))

    def separate(a, b):
        return (layer(a @ first) * over[:6]).sum((1, 2)) + (layer(b @ second) * over[6:]).sum(
            (1, 2)
        )

    inputs = randn(2, 6, 4, seed=64), randn(2, 3, 5, seed=65)
    assert_same_maps(joined, separate, inputs, channel_dim=-1)


def test_a_term_of_joined_inputs_is_divided_by_the_elements_of_each():
    a, b = randn(1, 1, 2, 2, seed=66), randn(1, 1, 2, 3, seed=67)
    decomposition = TGradAttribution(lambda a, b: (torch.cat([a, b], 3) + 0.5).sum((1, 2, 3)))
    (term,) = decomposition.decompose((a, b)).biases
    assert term.inputs == (0, 1)
    assert [float(term.maps[number].score) for number in (0, 1)] == [2.0, 3.0]
    torch.testing.assert_close(term.maps[1].positive, torch.full((1, 1, 2, 3), 0.5).double())
    assert float(term.score) == 5.0


@pytest.mark.parametrize(
    ("combine", "shares"),
    [
        (lambda h: h + h.flip(1), [1.0, 2.0]),  # a with b, b with itself, b with a
        (lambda h: h @ h.transpose(1, 2), [1.5, 3.0]),  # of 9, 1 is of a alone, 4 are of b alone
    ],
    ids=["along_one_dimension", "along_two_dimensions"],
)
def test_an_element_of_two_joined_inputs_is_divided_between_them(combine, shares):
    a, b = randn(1, 1, 2, seed=68), randn(1, 2, 2, seed=69)

    def forward(a, b):
        return (combine(torch.cat([a, b], 1)) + 0.5).sum((1, 2))

    term = TGradAttribution(forward).decompose((a, b), channel_dim=-1)["add"]
    assert [float(term.maps[number].score) for number in (0, 1)] == shares
