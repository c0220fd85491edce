"""One function, one map: two operations after each other, each in several ways to write it.

The map of a network may not depend on how its operations are written, whichever comes first.
"""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

SIZE = 24  # of the image; the operations get a grid of 12 x 12 cells


STEM, HEAD, KERNEL, BIAS = (
    randn(*shape, seed=i) * 0.3
    for i, shape in enumerate([(4, 3, 3, 3), (4, 3), (4, 4, 3, 3), (4, 1, 1)])
)


def _identity(n, step=1):
    return torch.eye(n).double()[::step]


def _pairs(n):
    """The matrix of means of two."""
    return torch.eye(n // 2).double().repeat_interleave(2, 1) / 2


def _mask(h):
    return F.pad(torch.ones(h.shape[2] - 3, h.shape[3] - 3).double(), (2, 1, 2, 1))


def _cropped(h):
    return h[:, :, 2:-1, 2:-1]


def _on_canvas(part, shape, rows, columns):
    canvas = part.new_zeros(shape)
    canvas[:, :, rows, columns] = part
    return canvas


def _doubled(shape):
    return (*shape[:2], 2 * shape[2], 2 * shape[3])


def _in_windows(op):
    def run(h):
        windows = h.unflatten(3, (2, -1)).unflatten(2, (2, -1)).permute(0, 2, 4, 1, 3, 5)
        found = op(windows.flatten(0, 2)).unflatten(0, windows.shape[:3])
        return found.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    return run


def _shifted_sum(h):
    padded, (rows, columns) = F.pad(h, (1, 1, 1, 1)), h.shape[2:]
    return sum(
        torch.einsum(
            "nchw,dc->ndhw", padded[:, :, i : i + rows, j : j + columns], KERNEL[..., i, j]
        )
        for i, j in itertools.product(range(3), range(3))
    )


def _blocks(h):
    return h.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)


def _of_each(channels, *shape):
    return torch.ones(channels, 1, *shape).double()


OPERATIONS = {
    "flip": [
        lambda h: h.flip(3),
        lambda h: h[..., torch.arange(h.shape[3]).flip(0)],
        lambda h: h @ _identity(h.shape[3]).flip(0),
        lambda h: torch.cat(h.split(1, 3)[::-1], 3),
    ],
    "roll": [
        lambda h: h.roll(2, 3),
        lambda h: torch.cat([h[..., -2:], h[..., :-2]], 3),
        lambda h: h[..., torch.arange(h.shape[3]).roll(2)],
        lambda h: h @ _identity(h.shape[3]).roll(2, 1),
    ],
    "mask": [
        lambda h: h * _mask(h),
        lambda h: F.pad(_cropped(h), (2, 1, 2, 1)),
        lambda h: _on_canvas(_cropped(h), h.shape, slice(2, -1), slice(2, -1)),
        lambda h: torch.where(_mask(h) > 0, h, 0),
        lambda h: h.masked_fill(_mask(h) == 0, 0),
    ],
    "stride": [
        lambda h: h[:, :, ::2, ::2],
        lambda h: F.avg_pool2d(h, 1, 2),
        lambda h: _identity(h.shape[2], 2) @ h @ _identity(h.shape[3], 2).T,
        lambda h: F.pixel_unshuffle(h, 2)[:, ::4],
        lambda h: h.unflatten(3, (-1, 2))[..., 0].unflatten(2, (-1, 2))[:, :, :, 0],
    ],
    "mean": [
        lambda h: F.avg_pool2d(h, 2),
        lambda h: F.conv2d(h, _of_each(h.shape[1], 2, 2) / 4, stride=2, groups=h.shape[1]),
        lambda h: h.unflatten(3, (-1, 2)).mean(4).unflatten(2, (-1, 2)).mean(3),
        lambda h: F.adaptive_avg_pool2d(h, (h.shape[2] // 2, h.shape[3] // 2)),
        lambda h: _blocks(h).mean(4),
    ],
    "max": [
        lambda h: F.max_pool2d(h, 2),
        lambda h: h.unflatten(3, (-1, 2)).amax(4).unflatten(2, (-1, 2)).amax(3),
        lambda h: _blocks(h).amax(4),
    ],
    "enlarge": [
        lambda h: F.interpolate(h, scale_factor=2),
        lambda h: h.repeat_interleave(2, 2).repeat_interleave(2, 3),
        lambda h: torch.kron(h, torch.ones(2, 2).double()),
        lambda h: F.conv_transpose2d(h, _of_each(h.shape[1], 2, 2), stride=2, groups=h.shape[1]),
        lambda h: 4 * _pairs(2 * h.shape[2]).T @ h @ _pairs(2 * h.shape[3]),
    ],
    "zeros between": [
        lambda h: _on_canvas(h, _doubled(h.shape), slice(None, None, 2), slice(None, None, 2)),
        lambda h: _identity(2 * h.shape[2], 2).T @ h @ _identity(2 * h.shape[3], 2),
    ],
    "pad": [
        lambda h: F.pad(h, (1, 1, 1, 1)),
        lambda h: F.pad(F.pad(h, (1, 1)), (0, 0, 1, 1)),
        lambda h: _on_canvas(
            h, (*h.shape[:2], h.shape[2] + 2, h.shape[3] + 2), slice(1, -1), slice(1, -1)
        ),
    ],
    "reflect": [
        lambda h: F.pad(h, (1, 1, 1, 1), "reflect"),
        lambda h: h[:, :, [1, *range(h.shape[2]), -2]][..., [1, *range(h.shape[3]), -2]],
    ],
    "average": [
        lambda h: F.avg_pool2d(h, 3, 2, 1),
        lambda h: F.avg_pool2d(F.pad(h, (1, 1, 1, 1)), 3, 2),
        lambda h: F.conv2d(
            h, _of_each(h.shape[1], 3, 3) / 9, stride=2, padding=1, groups=h.shape[1]
        ),
    ],
    "crop": [
        lambda h: h[:, :, 1:-1, 2:-2],
        lambda h: F.pad(h, (-2, -2, -1, -1)),
        lambda h: h[:, :, torch.arange(1, h.shape[2] - 1)][..., torch.arange(2, h.shape[3] - 2)],
    ],
    "add its coarser grid": [
        lambda h: h + F.interpolate(h[:, :, ::2, ::2], scale_factor=2),
        lambda h: h + h[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3),
    ],
    "convolve without padding": [
        lambda h: F.conv2d(h, KERNEL) + BIAS,
        lambda h: (
            (KERNEL.flatten(1) @ F.unfold(h, 3)).unflatten(2, (h.shape[2] - 2, h.shape[3] - 2))
            + BIAS
        ),
    ],
    "convolve": [
        lambda h: F.conv2d(h, KERNEL, padding=1) + BIAS,
        lambda h: F.conv2d(F.pad(h, (1, 1, 1, 1)), KERNEL) + BIAS,
        lambda h: (
            (KERNEL.flatten(1) @ F.unfold(h, 3, padding=1)).unflatten(2, h.shape[2:]) + BIAS
        ),
        lambda h: (
            F.conv_transpose2d(h, KERNEL.flip(2, 3).transpose(0, 1), padding=1) + BIAS
        ),
        lambda h: _shifted_sum(h) + BIAS,
    ],
    "activate": [
        F.silu,
        lambda h: F.silu(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        lambda h: F.silu(h.flatten(2)).unflatten(2, h.shape[2:]),
        lambda h: F.silu(h.flatten()).view_as(h),
    ],
    "in windows": [_in_windows(lambda h: F.conv2d(h, KERNEL, padding=1) + BIAS)],
}  # fmt: skip


def _network(*operations):
    def run(x):
        h = F.silu(F.conv2d(x, STEM, stride=2, padding=1))
        for operation in operations:
            h = operation(h)
        weights = randn(*h.shape[2:], seed=9).abs()
        return (F.silu(h) * weights).mean((2, 3)) @ HEAD

    return run


@cache
def _map(*forms):
    """The output and the map of a network of operations, each given by its name and its form."""
    x = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)).double()
    network = _network(*(OPERATIONS[name][form] for name, form in forms))
    return network(x), TGradAttribution(network).attribute(x, target=1)


def _check_one_map(names, forms):
    wanted, plain = _map(*((name, 0) for name in names))
    output, found = _map(*zip(names, forms, strict=True))
    torch.testing.assert_close(output, wanted)
    assert float((found - plain).abs().sum() / plain.abs().sum()) < 1e-9


def _fits(first, second):
    try:
        _network(OPERATIONS[first][0], OPERATIONS[second][0])(
            torch.zeros(1, 3, SIZE, SIZE).double()
        )
    except RuntimeError:
        return False
    return True


# Positions at seams and in padding that these forms do not tell apart.
DIFFERENT = {
    ("roll", "convolve", 0, 2),
    ("roll", "convolve", 0, 4),
    ("roll", "mask", 0, 1),
    ("roll", "mask", 0, 2),
    ("zeros between", "enlarge", 0, 3),
    ("zeros between", "roll", 0, 1),
    ("zeros between", "convolve", 0, 4),
    ("roll", "convolve without padding", 0, 1),
    ("reflect", "add its coarser grid", 0, 1),
    ("zeros between", "crop", 1, 0),
    ("crop", "mask", 0, 1),
    ("crop", "mask", 0, 2),
    ("crop", "convolve", 0, 4),
    ("convolve", "crop", 4, 0),
}
CASES = [
    pytest.param(
        *(first, second, i, j),
        marks=[pytest.mark.xfail(strict=True)] * ((first, second, i, j) in DIFFERENT),
    )
    for first, second in itertools.product(OPERATIONS, OPERATIONS)
    if _fits(first, second)
    for i, j in [
        *((i, 0) for i in range(1, len(OPERATIONS[first]))),
        *((0, j) for j in range(1, len(OPERATIONS[second]))),
    ]
]


@pytest.mark.parametrize(("first", "second", "i", "j"), CASES)
def test_two_operations_have_one_map(first, second, i, j):
    _check_one_map((first, second), (i, j))


@pytest.mark.parametrize(
    ("names", "forms"),
    [
        (("stride", "pad", "enlarge"), (0, 2, 0)),
        (("stride", "pad", "convolve"), (0, 2, 0)),
        (("convolve without padding", "convolve", "crop"), (0, 2, 0)),
        (("crop", "convolve", "crop"), (0, 2, 0)),
    ],
)
def test_three_operations_have_one_map(names, forms):
    _check_one_map(names, forms)


def test_a_mirrored_grid_has_the_same_cells_despite_rounding():
    def network(x):
        h = F.conv2d(F.conv2d(x, STEM), KERNEL)  # 16 pixels become 12 cells
        mirrored = h.flip(3) + h
        return F.silu(F.conv2d(F.pad(mirrored, (1, 1, 1, 1)), KERNEL)).mean((2, 3)) @ HEAD

    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double()
    term = TGradAttribution(network).decompose(x, target=1).biases[-1]
    assert term.maps[0].positive.shape == (1, 1, 12, 12)


@pytest.mark.parametrize("form", range(1, len(OPERATIONS["average"])))
def test_pixels_of_patches_that_are_channels_are_pooled_as_a_coarser_grid(form):
    def network(average):
        def run(x):
            patches = F.pixel_unshuffle(F.conv2d(x, STEM[:1]), 2)
            return F.silu(average(patches)).mean((2, 3)) @ HEAD

        return run

    plain, other = (network(OPERATIONS["average"][i]) for i in (0, form))
    assert_same_maps(other, plain, randn(2, 3, 18, 18), target=1)
