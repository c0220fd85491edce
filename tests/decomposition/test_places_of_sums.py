"""Sums of elements are at these: each network here takes the sum by hand, or in another form."""

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

LINE, LONG = torch.linspace(0.1, 1, 8).double(), torch.linspace(0.1, 1, 24).double()
FOLD = torch.arange(8) % 4
EVEN = torch.arange(8) % 2 == 0


def _on_the_line(forward, line=LINE):
    """The evidence of the last term on each pixel of a line."""
    term = TGradAttribution(forward).decompose(line[None, None]).terms[-1]
    on_input = term.maps[0]
    if on_input.grid is None:
        return ((on_input.positive + on_input.negative) / len(line)).flatten().expand(len(line))
    (cells,) = on_input.grid.axes
    pixels = torch.zeros(len(line)).double()
    evidence = (on_input.positive + on_input.negative).flatten()
    for (middle, width), own in zip(cells.tolist(), evidence.tolist(), strict=True):
        low, high = middle - width / 2 + 0.5, middle + width / 2 + 0.5
        for pixel in range(len(line)):
            pixels[pixel] += own * max(min(high, pixel + 1) - max(low, pixel), 0) / width
    return pixels


def _read(z):
    return (z.sigmoid() * torch.linspace(0.5, 1, z.shape[2]).double()).sum((1, 2))


def _evidence(z):
    """Of ``sigmoid(z)`` weighted as by ``_read``: ``w * (s - z * s * (1 - s))``, by hand."""
    s = z.sigmoid()
    return (torch.linspace(0.5, 1, len(z)).double() * (s - z * s * (1 - s))).abs()


def _with(z, index, values):
    z = z.clone()
    z[index] = values
    return z


def _assert_evidence(forward, expected, line=LINE):
    found = _on_the_line(forward, line)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def _parts(x, count):
    """Parts of three elements, with elements between them that are left out."""
    step = x.shape[-1] // count
    return [x[..., start : start + 3] for start in range(0, x.shape[-1], step)]


def _columns(*sums):
    """A matrix with a column of ones for each sum."""
    matrix = torch.zeros(24, len(sums)).double()
    for column, at in enumerate(sums):
        matrix[at, column] = 1
    return matrix


HALVES = [[0, 4], [1, 5], [2, 6], [3, 7]]  # the elements of each sum
OF_HALVES = {
    "slices": lambda x: x[..., :4] + x[..., 4:],
    "unflattened": lambda x: x.unflatten(2, (2, 4)).sum(2),
    "stacked": lambda x: torch.stack([x[..., :4], x[..., 4:]]).sum(0),
    "index_add": lambda x: torch.zeros(1, 1, 4).double().index_add(2, FOLD, x),
    "scatter_add": lambda x: torch.zeros(1, 1, 4).double().scatter_add(2, FOLD.view(1, 1, 8), x),
    "scatter_reduce": lambda x: (
        torch.zeros(1, 1, 4).double().scatter_reduce(2, FOLD.view(1, 1, 8), x, "sum")
    ),
    "index_put": lambda x: (
        torch.zeros(4).double().index_put((FOLD,), x[0, 0], accumulate=True)[None, None]
    ),
    "convolution": lambda x: F.conv1d(
        torch.cat([x[..., :4], x[..., 4:]], 1), torch.ones(1, 2, 1).double()
    ),
    "matrix": lambda x: x @ _columns(*HALVES)[:8],
}
OF_PARTS = {
    "added": lambda parts: sum(parts[1:], parts[0]),
    "stacked": lambda parts: torch.stack(parts).sum(0),
    "mean": lambda parts: torch.stack(parts, 3).mean(3) * len(parts),
    "in two dimensions": lambda parts: torch.stack(parts).unflatten(0, (1, -1)).sum((0, 1)),
    "einsum": lambda parts: torch.einsum("knci->nci", torch.stack(parts)),
    "convolution": lambda parts: F.conv1d(
        torch.cat(parts, 1), torch.ones(1, len(parts), 1).double()
    ),
}
OF_TWO = {
    "slices": lambda x: x[..., 6:7] + x[..., 17:18],
    "list": lambda x: x[..., [6, 17]].sum(2, keepdim=True),
    "stacked": lambda x: torch.stack([x[..., 6], x[..., 17]], 2).sum(2, keepdim=True),
    "stride": lambda x: x[..., 6::11].sum(2, keepdim=True),
}
SELECTED = [[0, 2, 5], [1, 7], [3]]
SUMS = [
    *((f"halves: {name}", LINE, HALVES, form) for name, form in OF_HALVES.items()),
    *((f"two: {name}", LONG, [[6, 17]], form) for name, form in OF_TWO.items()),
    *(
        (
            f"{count} parts: {name}",
            LONG,
            [[i + 24 // count * part for part in range(count)] for i in range(3)],
            lambda x, form=form, count=count: form(_parts(x, count)),
        )
        for count in (3, 4)
        for name, form in OF_PARTS.items()
    ),
    *(
        (
            f"selected: {count} of {len(line)}",
            line,
            SELECTED[:count],
            lambda x, count=count: x @ _columns(*SELECTED[:count])[: x.shape[2]],
        )
        for count in (2, 3)
        for line in (LINE, LONG)
    ),
]


@pytest.mark.parametrize(
    ("line", "sums", "form"), [pytest.param(*case, id=name) for name, *case in SUMS]
)
def test_a_sum_of_a_few_elements_is_divided_equally_among_them(line, sums, form):
    expected = torch.zeros(len(line)).double()
    for at, evidence in zip(
        sums, _evidence(torch.stack([line[at].sum() for at in sums])), strict=True
    ):
        expected[at] += evidence / len(at)
    _assert_evidence(lambda x: _read(form(x)), expected, line)


@pytest.mark.parametrize("end", [6, 7, 8])
def test_a_sum_of_distant_means_is_half_in_each_cell_also_if_they_differ_in_size(end):
    evidence = _evidence((LINE[:2].mean() + LINE[3:end].mean()).reshape(1)) / 2
    expected = torch.zeros(8).double()
    expected[:2], expected[3:end] = evidence / 2, evidence / (end - 3)
    _assert_evidence(
        lambda x: _read(x[..., :2].mean(2, keepdim=True) + x[..., 3:end].mean(2, keepdim=True)),
        expected,
    )


@pytest.mark.parametrize("pad", [(8, 0), (0, 8), (6, 0), (4, 4)])
def test_windows_that_reach_into_padding_are_where_those_of_a_convolution_are(pad):
    taps = torch.ones(1, 1, 9).double() / 9

    def middle(windows):
        found = _on_the_line(lambda x: windows(F.pad(x, pad))[..., 12].exp().sum(1), LONG)
        return float((found * torch.arange(24)).sum() / found.sum())

    expected = middle(lambda x: F.conv1d(x, taps))
    assert middle(lambda x: x.unfold(2, 9, 1) @ taps[0, 0]) == pytest.approx(expected)
    assert middle(lambda x: x.unfold(2, 9, 1).mean(3)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "mean",
    [
        lambda x: x.mean(2, keepdim=True),
        lambda x: x.unflatten(2, (4, 2)).mean(2).mean(2, keepdim=True),
        lambda x: x.unflatten(2, (2, 4)).mean(2).mean(2, keepdim=True),
        lambda x: x.unflatten(2, (4, 2)).mean(2).transpose(1, 2).mean(1, keepdim=True),
        lambda x: (x[..., :4] + x[..., 4:]).mean(2, keepdim=True) / 2,
        lambda x: x[..., :4].mean(2, keepdim=True) / 2 + x[..., 4:].mean(2, keepdim=True) / 2,
        lambda x: sum(part.mean(2, keepdim=True) for part in x.chunk(4, 2)) / 4,
        lambda x: F.pixel_unshuffle(x[:, None], 1).mean((1, 3))[..., None],
    ],
)
def test_a_mean_of_all_elements_has_no_place(mean):
    found = TGradAttribution(lambda x: mean(x).sigmoid().sum((1, 2))).decompose(LINE[None, None])
    assert found.terms[-1].maps[0].grid is None


@pytest.mark.parametrize("parts", [(8, 3), (12, 2)])
def test_a_sum_over_every_nth_element_has_no_place(parts):
    expected = _evidence(LONG.unflatten(0, parts).sum(0)).sum() / 24
    _assert_evidence(lambda x: _read(x.unflatten(2, parts).sum(2)), expected.expand(24), LONG)


@pytest.mark.parametrize(
    "doubled",
    [
        lambda x: _with(x, (..., slice(0, None, 2)), x[..., ::2] * 2),
        lambda x: _with(x, (..., EVEN), x[..., EVEN] * 2),
        lambda x: x.index_put(
            (torch.tensor(0), torch.tensor(0), EVEN), x[0, 0, ::2], accumulate=True
        ),
        lambda x: torch.stack([x[..., ::2] * 2, x[..., 1::2]], 3).flatten(2),
    ],
)
def test_every_other_element_is_written_back_where_it_was(doubled):
    expected = _evidence(LINE * (1.0 + EVEN))
    _assert_evidence(lambda x: _read(doubled(x)), expected)


@pytest.mark.parametrize(
    "halved",
    [
        lambda x: x[..., ::2],
        lambda x: x[..., torch.arange(0, 8, 2)],
        lambda x: x[..., EVEN],
        lambda x: x.unflatten(2, (4, 2))[..., 0],
        lambda x: torch.stack([x[..., i] for i in (0, 2, 4, 6)], 2),
        lambda x: F.conv1d(x, torch.ones(1, 1, 1).double(), stride=2),
    ],
)
def test_every_other_element_stands_for_two(halved):
    expected = _evidence(LINE[::2]).repeat_interleave(2) / 2
    _assert_evidence(lambda x: _read(halved(x)), expected)


@pytest.mark.parametrize(
    "windows",
    [
        lambda x: x.as_strided((1, 1, 3, 4), (8, 8, 2, 1)),
        lambda x: torch.ops.aten.as_strided(x, [1, 1, 3, 4], [8, 8, 2, 1], 0),
        lambda x: (x * 1.0).mT.as_strided((1, 1, 3, 4), (8, 8, 2, 1)),
        lambda x: torch.stack([x, x], 1)[:, 1].as_strided((1, 1, 3, 4), (8, 8, 2, 1)),
    ],
)
def test_windows_of_as_strided_are_where_their_elements_are(windows):
    weight = torch.arange(1.0, 13).double().reshape(3, 4)
    expected = torch.zeros(8).double()
    for window, own in zip(LINE.unfold(0, 4, 2), weight, strict=True):
        start = int((window[0] == LINE).nonzero())
        s = window.sigmoid()
        expected[start : start + 4] += own * (s - window * s * (1 - s)).abs()
    _assert_evidence(lambda x: (windows(x).sigmoid() * weight).sum((1, 2, 3)), expected)


def test_a_constant_that_is_added_in_place_to_every_other_element_is_there():
    def forward(x):
        y = x * 1.0
        y[..., ::2].add_(0.5)
        return (y * LINE).sum((1, 2))

    torch.testing.assert_close(_on_the_line(forward), 0.5 * LINE * EVEN)


TAPS = torch.tensor([[[1.0, 2.0, 3.0]]]).double()


def _padded(x, dilation):
    return F.conv1d(F.pad(x, (2 * dilation, 0)), TAPS, dilation=dilation)


def _cut(x, dilation):
    return F.conv1d(x, TAPS, padding=2 * dilation, dilation=dilation)[..., : -2 * dilation]


@pytest.mark.parametrize("form", [_padded, _cut])
@pytest.mark.parametrize("dilation", [1, 2])
def test_a_causal_convolution_is_where_its_windows_are(dilation, form):
    expected = torch.zeros(8).double()
    for step, evidence in enumerate(_evidence(_padded(LINE[None, None], dilation)[0, 0])):
        middle = step - dilation
        # The middle of the first windows is padding: they are at the pixels that they see.
        at = slice(0, step + 1) if middle < 0 else slice(middle, middle + 1)
        expected[at] += evidence / len(expected[at])
    _assert_evidence(lambda x: _read(form(x, dilation)), expected)


@pytest.mark.parametrize("dilations", [(1, 1), (1, 2), (2, 2), (2, 4)])
def test_two_causal_convolutions_have_one_map_in_both_forms(dilations):
    def network(first, second):
        return lambda x: _read(second(first(x, dilations[0]), dilations[1]))

    plain = network(_padded, _padded)
    for forms in ((_padded, _cut), (_cut, _padded), (_cut, _cut)):
        found = assert_same_maps(network(*forms), plain, LINE[None, None])
        # Each unit sees a part of the line, so no evidence is spread evenly.
        torch.testing.assert_close(found.placed, torch.ones(1).double())
    if dilations == (1, 1):
        z = _padded(_padded(LINE[None, None], 1), 1)[0, 0]
        by_hand = torch.zeros(8).double()
        for step, evidence in enumerate(_evidence(z)):
            by_hand[max(step - 2, 0)] += evidence  # each convolution is one step late
        _assert_evidence(network(_cut, _cut), by_hand)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_that_repeats_elements_moves_no_place(mode, stride):
    def forward(x):
        return _read(F.conv1d(F.pad(x, (1, 1), mode), TAPS, stride=stride))

    z = F.conv1d(F.pad(LINE[None, None], (1, 1), mode), TAPS, stride=stride)[0, 0]
    expected = _evidence(z).repeat_interleave(stride) / stride
    _assert_evidence(forward, expected)


def test_a_fourier_transform_there_and_back_moves_no_place():
    _assert_evidence(lambda x: _read(torch.fft.irfft(torch.fft.rfft(x))), _evidence(LINE))


MIDDLE, CLASSES = (..., slice(10, 26)), torch.linspace(-1, 1, 30).reshape(6, 5).double()
SPARSE = torch.rand(32, 10, generator=torch.Generator().manual_seed(4)).double()
SPARSE = torch.where(SPARSE > 0.5, SPARSE, 0)
PICKED = torch.eye(32)[20].double()


def _classified(h):
    return (F.silu(h + 0.2) * torch.linspace(0.5, 2, h.shape[2]).double()).mean(2) @ CLASSES


@pytest.mark.parametrize(
    ("form", "plain"),
    [
        (
            lambda h: h[MIDDLE][..., :-2] + h[MIDDLE][..., 1:-1] + h[MIDDLE][..., 2:],
            lambda h: F.conv1d(h[MIDDLE], torch.ones(6, 1, 3).double(), groups=6),
        ),
        (lambda h: (h @ PICKED).unsqueeze(2), lambda h: h[..., 20:21]),
        (lambda h: (h @ SPARSE[:, 0]).unsqueeze(2), lambda h: h @ SPARSE[:, :1]),
        (lambda h: h @ SPARSE, lambda h: h @ torch.where(SPARSE > 0, SPARSE, 1e-13)),
    ],
    ids=[
        "shifted copies of a crop",
        "a vector that picks",
        "a sparse vector",
        "a sparse matrix",
    ],
)
def test_a_form_has_the_map_of_the_plain_form(form, plain):
    weight = torch.linspace(-1, 1, 18).reshape(6, 3, 1).double()
    networks = (
        lambda x, read=read: _classified(read(F.relu(F.conv1d(x, weight))))
        for read in (form, plain)
    )
    assert_same_maps(*networks, randn(2, 3, 32, seed=5), 1)


IMAGE = torch.arange(1.0, 65).reshape(1, 1, 8, 8).double()


def _in_pixels(cells):
    """The share of each cell in each of 8 pixels."""
    pixels = torch.arange(8).double()
    low, high = (cells[:, :1] + side * cells[:, 1:] / 2 for side in (-1, 1))
    both = torch.minimum(high, pixels + 0.5) - torch.maximum(low, pixels - 0.5)
    return both.clamp_min(0) / cells[:, 1:]


def _squares_on_the_image(sums):
    """Where the term of the square of sums of pixels is; its evidence is the square itself."""
    method = TGradAttribution(lambda x: sums(x).square().flatten(1).sum(1))
    on_input = method.decompose(IMAGE).terms[-1].maps[0]
    evidence = (on_input.positive + on_input.negative)[0, 0]
    if on_input.grid is None:
        return (evidence / 64).expand(8, 8)
    rows, columns = map(_in_pixels, on_input.grid.axes)
    return rows.T @ evidence @ columns


@pytest.mark.parametrize(
    "multiply",
    [torch.kron, lambda a, b: a[..., None] * b, lambda a, b: torch.einsum("ij,k->ijk", a, b)],
)
def test_an_outer_product_is_half_at_each_of_its_factors(multiply):
    image = IMAGE[0, 0]
    expected = torch.zeros(8, 8).double()
    for i, j, k in torch.cartesian_prod(*map(torch.arange, (2, 4, 2))).tolist():
        half = (image[i, j] * image[5, k]).square() / 2
        expected[i, j] += half
        expected[5, k] += half
    found = _squares_on_the_image(lambda x: multiply(x[0, 0, :2, :4], x[0, 0, 5, :2])[None])
    torch.testing.assert_close(found, expected)


def _quadrants(x):
    return x[..., :4, :4] + x[..., :4, 4:] + x[..., 4:, :4] + x[..., 4:, 4:]


@pytest.mark.parametrize(
    "sums",
    [
        _quadrants,
        lambda x: x.reshape(1, 2, 4, 2, 4).sum((1, 3)),
        lambda x: x.reshape(1, 2, 4, 2, 4).movedim(3, 2).flatten(1, 2).sum(1),
        lambda x: torch.einsum("narbc -> nrc", x.reshape(1, 2, 4, 2, 4)),
        lambda x: torch.stack([_quadrants(x)]).squeeze(0),
        lambda x: sum(torch.roll(x, (i, j), (2, 3)) for i in (0, 4) for j in (0, 4)) / 2,
    ],
    ids=["added", "summed", "flattened", "einsum", "stacked", "rolled"],
)
def test_a_sum_of_quadrants_is_at_all_four(sums):
    expected = _quadrants(IMAGE)[0, 0].square() / 4
    torch.testing.assert_close(_squares_on_the_image(sums), expected.repeat(2, 2))


@pytest.mark.parametrize(
    "sums",
    [
        lambda x: x.reshape(1, 4, 2, 4, 2).sum((1, 3)),
        lambda x: x.reshape(1, 4, 2, 4, 2).movedim(3, 2).flatten(1, 2).sum(1),
    ],
)
def test_a_sum_of_many_scattered_pixels_is_spread_evenly(sums):
    total = IMAGE.reshape(4, 2, 4, 2).sum((0, 2)).square().sum()
    torch.testing.assert_close(_squares_on_the_image(sums), (total / 64).expand(8, 8))


def test_windows_across_the_seams_of_a_rolled_image_have_four_parts():
    rolled = torch.roll(IMAGE, (2, 2), (2, 3))
    expected = F.avg_pool2d(rolled, 4)[0, 0].mul(16).square() / 16
    expected = torch.roll(
        expected.repeat_interleave(4, 0).repeat_interleave(4, 1), (-2, -2), (0, 1)
    )
    found = _squares_on_the_image(
        lambda x: torch.roll(x, (2, 2), (2, 3)).reshape(1, 2, 4, 2, 4).sum((2, 4))
    )
    torch.testing.assert_close(found, expected)
