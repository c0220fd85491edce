"""Sums of elements that are at several pixels, such as those of an image plus its mirror image.

The evidence of a sum is divided equally among the places of its elements. Each of these places is
spread over the pixels that it has in the elements of the sum.
"""

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

SIZE, PIXELS = 6, 36
IMAGES = randn(2, 3, SIZE, SIZE, seed=70)
NUMBERS = torch.arange(PIXELS)
# The second pixel of each element.
OTHERS = {
    "mirrored": NUMBERS.flip(0),
    "transposed": NUMBERS.view(SIZE, SIZE).T.flatten(),
    "rolled": NUMBERS.roll(15),
}
GROUP = 3


def _matrix(numbers, count):
    return F.one_hot(numbers, count).double().T


# How tokens ``(N, 36, 3)`` are added in groups, and the group of each token.
SUMS = {
    "groups": (
        NUMBERS // GROUP,
        {
            "view": lambda h: h.unflatten(1, (-1, GROUP)).sum(2),
            "pooling": lambda h: F.avg_pool1d(h.mT, GROUP).mT * GROUP,
            "matrix": lambda h: _matrix(NUMBERS // GROUP, 12) @ h,
            "unfold": lambda h: h.unfold(1, GROUP, GROUP).sum(-1),
            "index_add": lambda h: (
                torch.zeros(len(h), 12, 3).double().index_add(1, NUMBERS // GROUP, h)
            ),
            "slices": lambda h: h[:, 0::GROUP] + h[:, 1::GROUP] + h[:, 2::GROUP],
            "stack": lambda h: torch.stack([each.sum(1) for each in h.split(GROUP, 1)], 1),
        },
    ),
    "rows": (
        NUMBERS // SIZE,
        {
            "view": lambda h: h.unflatten(1, (SIZE, SIZE)).sum(2),
            "pooling": lambda h: F.avg_pool1d(h.mT, SIZE).mT * SIZE,
            "matrix": lambda h: _matrix(NUMBERS // SIZE, SIZE) @ h,
            "index_add": lambda h: (
                torch.zeros(len(h), SIZE, 3).double().index_add(1, NUMBERS // SIZE, h)
            ),
        },
    ),
    "columns": (
        NUMBERS % SIZE,
        {
            "view": lambda h: h.unflatten(1, (SIZE, SIZE)).sum(1),
            "einsum": lambda h: torch.einsum("nijc->njc", h.unflatten(1, (SIZE, SIZE))),
            "matrix": lambda h: _matrix(NUMBERS % SIZE, SIZE) @ h,
            "scatter_add": lambda h: (
                torch.zeros(len(h), SIZE, 3)
                .double()
                .scatter_add(1, (NUMBERS % SIZE)[None, :, None].expand_as(h), h)
            ),
        },
    ),
    "quadrants": (
        NUMBERS // 18 * 2 + NUMBERS % SIZE // 3,
        {
            "view": lambda h: h.unflatten(1, (2, 3, 2, 3)).sum((2, 4)).flatten(1, 2),
            "pooling": lambda h: F.avg_pool2d(h.mT.unflatten(2, (SIZE, SIZE)), 3).flatten(2).mT * 9,
            "crops": lambda h: torch.stack(
                [
                    h.unflatten(1, (SIZE, SIZE))[:, i : i + 3, j : j + 3].sum((1, 2))
                    for i in (0, 3)
                    for j in (0, 3)
                ],
                1,
            ),
        },
    ),
}
CASES = [
    pytest.param(other, group, form, id=f"{name}-{kind}-{how}")
    for name, other in OTHERS.items()
    for kind, (group, forms) in SUMS.items()
    for how, form in forms.items()
    if name != "rolled" or kind == "groups"  # its other rows and columns are no boxes
]


def _at_each_place(squares, group, other):
    """The evidence of each sum, shape ``(N, sums)``, divided among the pixels of its two places."""
    evidence = torch.zeros(len(squares), PIXELS).double()
    for number, square in enumerate(squares.unbind(1)):
        own = (group == number).nonzero().flatten()
        for pixels in (own, other[own]):
            evidence[:, pixels] += square[:, None] / (2 * len(pixels))
    return evidence.view(-1, 1, SIZE, SIZE)


@pytest.mark.parametrize(("other", "group", "form"), CASES)
def test_sums_of_elements_at_two_pixels(other, group, form):
    weights = torch.linspace(0.5, 2, int(group.max()) + 1).double()[:, None]

    def added(x):
        h = x.flatten(2).mT
        return form(h + h[:, other])

    method = TGradAttribution(lambda x: (added(x).square() * weights).sum((1, 2)))
    term = method.decompose(IMAGES).terms[-1]
    expected = _at_each_place((added(IMAGES).square() * weights).sum(2), group, other)
    cells = term.positive + term.negative
    shown = F.interpolate(cells, (SIZE, SIZE)) * cells[0].numel() / PIXELS
    torch.testing.assert_close(shown, expected)


def _plus_other(other):
    return torch.eye(PIXELS).double() + torch.eye(PIXELS).double()[other]


ADDED = {
    "matrix": lambda h, other: _plus_other(other) @ h,
    "einsum": lambda h, other: torch.einsum("ts,nsc->ntc", _plus_other(other), h),
    "linear": lambda h, other: F.linear(h.mT, _plus_other(other)).mT,
    "sparse": lambda h, other: torch.stack(
        [torch.sparse.mm(_plus_other(other).to_sparse(), each) for each in h]
    ),
    "matrix of others": lambda h, other: h + torch.eye(PIXELS).double()[other] @ h,
    "gathered": lambda h, other: h[:, torch.stack([NUMBERS, other], 1)].sum(2),
    "index_add": lambda h, other: h.index_add(1, other.argsort(), h),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
def test_an_image_plus_its_mirror_image_has_one_map(add, other):
    weights = torch.linspace(0.5, 2, PIXELS).double()[:, None]

    def network(add):
        return lambda x: (F.silu(add(x.tanh().flatten(2).mT)) * weights).mean(1)

    plain = network(lambda h: h + h[:, other])
    assert_same_maps(network(lambda h: add(h, other)), plain, IMAGES, 1)


ORDERS = {
    "rows": lambda shift: shift,
    "columns": lambda shift: shift[::-1],
    "diagonals": lambda shift: (sum(shift), shift),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_shifted_images_are_added_in_any_order(size, order):
    shifts = [(row, column) for row in range(size) for column in range(size)]
    width = SIZE + 1 - size % 2
    images = randn(2, 3, width + size - 1, width + size - 1, seed=71)
    weights = torch.linspace(0.5, 2, width).double()

    def network(add):
        def forward(x):
            parts = [
                x.tanh()[..., row : row + width, column : column + width] * (row + 2 * column + 1)
                for row, column in sorted(shifts, key=order)
            ]
            return (F.silu(add(parts)) * weights).mean(3) @ weights

        return forward

    assert_same_maps(network(sum), network(lambda parts: torch.stack(parts).sum(0)), images, 1)
