"""A bias is put where it acts: each network here adds one known constant at one known place."""

import warnings

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution

N, C, H, W = 2, 3, 4, 6
X = torch.rand(N, C, H, W, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
SPOT = torch.zeros(H, W, dtype=torch.float64)
SPOT[1, 4] = 5.0
PER_SAMPLE = torch.tensor([1.0, 3.0], dtype=torch.float64)


def _windows(x):
    """(N, H, W, C) to (N * windows, 2, 2, C)."""
    x = x.reshape(N, H // 2, 2, W // 2, 2, C).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(-1, 2, 2, C)


def _channels_last(x):
    return (x.permute(0, 2, 3, 1) + SPOT[..., None]).sum((1, 2, 3))


def _tokens(x):
    return (x.flatten(2).transpose(1, 2) + SPOT.reshape(-1, 1)).sum((1, 2))


def _tokens_first(x):
    return (x.flatten(2).permute(2, 0, 1) + SPOT.reshape(-1, 1, 1)).sum((0, 2))


def _after_a_class_token(x):
    tokens = torch.cat([torch.zeros(N, 1, C).double(), x.flatten(2).transpose(1, 2)], dim=1)
    return (tokens + F.pad(SPOT.reshape(-1, 1), (0, 0, 1, 0))).sum((1, 2))


def _in_a_window(x):
    spots = _windows(SPOT.reshape(1, H, W, 1).expand(N, H, W, C))
    windows = _windows(x.permute(0, 2, 3, 1)) + spots
    return windows.reshape(N, -1).sum(1)


def _in_a_shifted_window(x):
    rolled = torch.roll(x.permute(0, 2, 3, 1), (-1, 2), (1, 2))
    spots = torch.roll(SPOT, (-1, 2), (0, 1)).reshape(1, H, W, 1).expand(N, H, W, C)
    return (_windows(rolled) + _windows(spots)).reshape(N, -1).sum(1)


def _einsum(x):
    mixed = torch.einsum("nchw, cd -> hwnd", x, torch.eye(C).double())
    return (mixed + SPOT[:, :, None, None]).sum((0, 1, 3))


def _split_and_stacked(x):
    left, right = x.unsqueeze(-1).movedim(1, -2).squeeze(-1).split([2, 1], dim=-1)
    return torch.cat([left + SPOT[..., None], right + SPOT[..., None]], -1).sum((1, 2, 3))


def _cut_at_places(x):
    parts = torch.cat([torch.zeros(N, C, 3, W).double(), torch.ones_like(x[:, :, :2]), x], 2)
    _, _, image = parts.tensor_split([3, -H], dim=2)
    return (image + SPOT).sum((1, 2, 3))


def _cut_into_a_number(x):
    # 14 rows in 4 parts: of 4, 4, 3 and 3 rows.
    parts = torch.cat([x * 0, x, x[:, :, :3] * 0, x[:, :, :3] * 0], 2)
    return (parts.tensor_split(4, dim=2)[1] + SPOT).sum((1, 2, 3))


def _padded_and_cropped(x):
    padded = F.pad(x, (1, 2, 0, 3))[:, :, :H, 1 : W + 1]
    return (padded + SPOT).sum((1, 2, 3))


def _letterboxed(x):
    boxed = F.pad(x, (W, 1, 0, 2))
    boxed = F.conv2d(boxed, torch.eye(C)[:, :, None, None].double())
    return (boxed + F.pad(SPOT, (W, 1, 0, 2))).sum((1, 2, 3))


def _padded_for_a_kernel(x):
    middle = torch.zeros(C, C, 3, 3).double()
    middle[:, :, 1, 1] = torch.eye(C)
    return (F.conv2d(F.pad(x, (1, 1, 1, 1)), middle) + SPOT).sum((1, 2, 3))


def _beside_its_length(x):
    return (x + x * 0 * torch.linalg.vector_norm(x, dim=1, keepdim=True) + SPOT).sum((1, 2, 3))


def _gated(x):
    return (F.glu(torch.cat([x, torch.full_like(x, 60.0)], 1), dim=1) + SPOT).sum((1, 2, 3))


def _channels_shuffled(x):
    return (F.channel_shuffle(torch.cat([x, x * 0], 1), 2) + SPOT / 2).sum((1, 2, 3))


def _written_into_a_view(x):
    x = x * 1
    x[:, :, 1].add_(SPOT[1])
    return x.sum((1, 2, 3))


def _assigned(x):
    canvas = SPOT.expand(N, 2 * C, H, W).clone()
    canvas[:, :C] = x + SPOT
    return canvas[:, :C].sum((1, 2, 3))


@pytest.mark.parametrize(
    "forward",
    [
        _channels_last,
        _tokens,
        _tokens_first,
        _after_a_class_token,
        _in_a_window,
        _in_a_shifted_window,
        _einsum,
        _split_and_stacked,
        _cut_at_places,
        _cut_into_a_number,
        _padded_and_cropped,
        _letterboxed,
        _padded_for_a_kernel,
        _beside_its_length,
        _gated,
        _channels_shuffled,
        _written_into_a_view,
        _assigned,
    ],
)
def test_constant_is_where_it_was_added(forward):
    whole = TGradAttribution(lambda x: PER_SAMPLE * forward(x)).decompose(X)
    total = sum(term.score for term in whole.biases)
    torch.testing.assert_close(total, PER_SAMPLE * C * SPOT.sum())
    placed = [term for term in whole.biases if float(term.positive.sum()) > 0]
    summed = sum(term.positive for term in placed)
    torch.testing.assert_close(summed, C * PER_SAMPLE.reshape(N, 1, 1, 1) * SPOT.expand(N, 1, H, W))


def test_a_prefix_token_has_no_place_but_counts():
    token = torch.full((1, 1, C), 2.0, dtype=torch.float64)

    def forward(x):
        return torch.cat([token.expand(N, 1, C), x.flatten(2).transpose(1, 2)], dim=1).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases
    torch.testing.assert_close(term.score, torch.full((N,), 2.0 * C, dtype=torch.float64))
    torch.testing.assert_close(term.positive, torch.full((N, 1, H, W), 2.0 * C / (H * W)).double())


@pytest.mark.parametrize(
    ("forward", "places"),
    [
        (lambda x: x.flatten(1) + 1, torch.ones(H, W)),
        (lambda x: torch.flip(x, [3]).flatten(2).flatten(1) + 1, torch.ones(H, W)),
        (lambda x: x[:, :, 1:3, 2:4].flatten(1) + 1, F.pad(torch.ones(2, 2), (2, 2, 1, 1))),
        (lambda x: x[:, :, 1, 2] + 1, F.pad(torch.ones(1, 1), (2, 3, 1, 2))),
        (lambda x: x.mean((2, 3)) + 1, None),
        (lambda x: (x.flatten(2) @ torch.ones(H * W, 5).double() + 1).flatten(1) / 5, None),
    ],
)
def test_a_constant_is_where_the_elements_are_that_it_is_added_to(forward, places):
    whole = TGradAttribution(lambda x: forward(x).sum(1)).decompose(X)
    for term in whole.biases:
        if places is None:
            torch.testing.assert_close(term.positive, torch.full((N, 1), float(C)).double())
            assert term.placed.tolist() == [0.0] * N
        else:
            expected = C * places.double().expand(N, 1, H, W)
            torch.testing.assert_close(term.positive, expected)
            assert term.placed.tolist() == [1.0] * N
    assert bool((whole.delta.abs() < 1e-9).all())


def test_a_score_between_two_places_is_half_at_each():
    # One query and one key: row 1, column 4 and row 3, column 0.
    spots = torch.zeros(H * W, H * W).double()
    spots[W + 4, 3 * W] = 6.0

    def forward(x):
        tokens = x.flatten(2)
        return (tokens.transpose(1, 2) @ tokens * 0 + spots).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases[-1:]
    expected = torch.zeros(H, W).double()
    expected[1, 4] = expected[3, 0] = 3.0
    torch.testing.assert_close(term.positive, expected.expand(N, 1, H, W))


def _flipped_canvas(x):
    canvas = torch.zeros(N, 2 * C, H, W).double()
    canvas[:, :C] = x
    canvas[:, C:] = x.flip(3)
    return canvas[:, C:]


def _permuted_canvas(x):
    canvas = torch.zeros(N, C, H, W).double()
    canvas[..., torch.arange(W - 1, -1, -1)] = x
    return canvas


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x.flip(3),
        lambda x: torch.cat([x, x.flip(3)], 1)[:, C:],
        lambda x: torch.stack([x, x.flip(3)], 1)[:, 1],
        lambda x: torch.where(x.flip(3) > 0, x.flip(3), torch.zeros_like(x)),
        lambda x: F.conv2d(x.flip(3), torch.eye(C)[:, :, None, None].double()),
        _flipped_canvas,
        _permuted_canvas,
    ],
)
def test_a_mirrored_place_is_mirrored_back(forward):
    spot = X * 0
    spot[:, :, 1, 4] = 1.0
    whole = TGradAttribution(lambda x: -forward(x).square().sum((1, 2, 3))).decompose(spot)
    (term,) = [term for term in whole.biases if float(term.positive.sum()) > 0]
    expected = torch.zeros(H, W).double()
    expected[1, 4] = float(C)
    torch.testing.assert_close(term.positive, expected.expand(N, 1, H, W))
    assert bool((whole.delta.abs() < 1e-12).all())


PIXELS = torch.randperm(H * W, generator=torch.Generator().manual_seed(7))
ADD_CHANNELS = torch.eye(C).double()[..., None, None]


@pytest.mark.parametrize(
    "move", [lambda x: x.flip(3), lambda x: x.flatten(2)[..., PIXELS].view_as(x)]
)
@pytest.mark.parametrize(
    "add",
    [
        lambda a, b: a + b,
        lambda a, b: b + a,
        lambda a, b: (a.flatten(2) + b.flatten(2)).view_as(a),
        lambda a, b: torch.stack([a, b]).sum(0),
        lambda a, b: F.conv2d(torch.cat([a, b], 1), ADD_CHANNELS.repeat(1, 2, 1, 1)),
        lambda a, b: F.conv2d(
            torch.stack([a, b], 2).flatten(1, 2), torch.ones(C, 2, 1, 1).double(), groups=C
        ),
    ],
    ids=["sum", "other_first", "of_tokens", "stack", "convolution", "convolution_in_groups"],
)
def test_a_sum_with_moved_pixels_is_half_at_each_of_its_places(add, move):
    spot = X * 0
    spot[:, :, 1, 4] = 1.0
    whole = TGradAttribution(lambda x: -add(x * 0, move(x)).square().sum((1, 2, 3))).decompose(spot)
    (term,) = [term for term in whole.biases if float(term.positive.sum()) > 0]
    expected = C / 2 * (spot + move(spot))[:, :1]
    torch.testing.assert_close(term.positive, expected)


def _attention(tokens, q, k, v):
    return F.scaled_dot_product_attention(tokens @ q, tokens @ k, tokens @ v)


def _attention_with_a_mask(tokens, q, k, v):
    constant = torch.linspace(0, 1, H * W * 5).double().view(1, H * W, 5).expand(len(tokens), -1, 5)
    return F.scaled_dot_product_attention(constant, constant, constant, tokens @ q @ constant.mT)


@pytest.mark.parametrize("attention", [_attention, _attention_with_a_mask])
def test_attention_acts_at_the_query(attention):
    q, k, v = (
        torch.randn(C, 5, generator=torch.Generator().manual_seed(i)).double() for i in (1, 2, 3)
    )

    def forward(x):
        tokens = x.flatten(2).transpose(1, 2)
        attended = attention(tokens, q, k, v)
        picked = torch.zeros(H * W, 1).double()
        picked[W + 4] = 1.0  # only the query at row 1, column 4
        return (attended * picked).sum((1, 2))

    whole = TGradAttribution(forward).decompose(X)
    assert bool((whole.delta.abs() < 1e-12).all())
    (term,) = whole.biases
    where = (term.positive + term.negative).nonzero()
    assert where[:, 2:].unique(dim=0).tolist() == [[1, 4]]


@pytest.mark.parametrize("kind", ["pooling", "convolution"])
def test_what_is_beside_a_padded_image_is_spread_evenly(kind):
    # Two rows above and four columns to the left, then two by two: 3 x 5 cells, of which the last
    # 2 x 3 are the image's.
    cells = torch.arange(15.0, dtype=torch.float64).reshape(3, 5)

    def forward(x):
        padded = F.pad(x, (4, 0, 2, 0))
        if kind == "pooling":
            coarse = F.avg_pool2d(padded, 2)
        else:
            coarse = F.conv2d(padded, torch.ones(1, C, 2, 2).double(), stride=2)
        return (coarse.sum(1) + cells).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases
    image = cells[1:, 2:]
    expected = image + (cells.sum() - image.sum()) / 6
    torch.testing.assert_close(term.positive, expected.expand(N, 1, 2, 3))


def test_padding_that_a_stride_leaves_out():
    # A kernel of 3 with stride 2 on one more row and column: 2 x 3 cells, all of them the image's.
    spot = torch.zeros(2, 3, dtype=torch.float64)
    spot[1, 2] = 5.0

    def forward(x):
        weight = torch.ones(1, C, 3, 3).double()
        return (F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2).sum(1) + spot).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases
    torch.testing.assert_close(term.positive, spot.expand(N, 1, 2, 3))


def test_every_other_row_of_a_padded_image():
    # Rows 0, 2, 4 and 6 of which 2 to 5 are the image's.
    cells = torch.arange(4.0, dtype=torch.float64)[:, None].expand(4, W)

    def forward(x):
        return (F.pad(x, (0, 0, 2, 2))[:, :, ::2].sum(1) + cells).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases
    expected = cells[1:3] + (0.0 + 3.0) / 2
    torch.testing.assert_close(term.positive, expected.expand(N, 1, 2, W))


def test_two_grids_in_one_sequence_keep_their_places():
    fine = torch.zeros(H, W).double()
    coarse = torch.zeros(H // 2, W // 2).double()
    fine[3, 5], coarse[1, 0] = 2.0, 8.0

    def forward(x):
        grids = [x.flatten(2), F.avg_pool2d(x, 2).flatten(2)]
        constants = torch.cat([fine.flatten(), coarse.flatten()])
        return (torch.cat(grids, 2) + constants).sum((1, 2))

    (term,) = TGradAttribution(forward).decompose(X).biases
    expected = fine.clone()
    expected[2:4, 0:2] += 2.0  # a quarter of the coarse cell each
    torch.testing.assert_close(term.positive, C * expected.expand(N, 1, H, W))


def test_a_term_that_is_finer_than_the_input():
    scale = 7
    fine = torch.zeros(scale * H, scale * W).double()
    fine[7 * 1 + 6, 7 * 4] = 5.0  # in the corner of a cell

    def forward(x):
        return (F.interpolate(x, scale_factor=scale) + fine).sum((1, 2, 3))

    method = TGradAttribution(forward)
    whole = method.decompose(X)
    constant = method.attribute(X).sum(1) - X.sum(1) * scale**2
    expected = torch.zeros(N, H, W).double()
    expected[:, 1, 4] = C * 5.0
    torch.testing.assert_close(constant, expected)
    torch.testing.assert_close(whole.delta, torch.zeros(N).double(), atol=1e-9, rtol=0)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_score_between_two_tokens_is_divided_between_them(samples):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, 5, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    whole = TGradAttribution(lambda x: (x @ x.mT * weight).sum((1, 2))).decompose(x, channel_dim=-1)
    c = -weight * (x @ x.mT)  # a product of two factors is of degree two: b = -y
    term = whole["matmul"]
    for evidence, actual in ((c.relu(), term.positive), ((-c).relu(), term.negative)):
        expected = (evidence.sum(1) + evidence.sum(2)) / 2
        torch.testing.assert_close(actual[:, 0], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.cumsum(3)[..., -1],
        lambda x: x.flip(3).cumsum(3).flip(3)[..., 0],
        lambda x: x.exp().cumprod(3)[..., -1].log(),
        lambda x: x.log().logcumsumexp(3)[..., -1].exp(),
    ],
    ids=["cumsum", "backwards", "cumprod", "logcumsumexp"],
)
def test_the_last_of_cumulative_sums_is_at_the_whole_row(form):
    whole = TGradAttribution(lambda x: (form(x) + 1).square().flatten(1).sum(1)).decompose(X)
    term = whole["square"]
    assert term.resolution == f"{H} x 1"
    c = -(X.sum(3) + 1).square()  # a square is of degree two: b = -y
    torch.testing.assert_close(term.negative[:, 0, :, 0], -c.sum(1))


def _on_the_line(forward, line=None):
    """The evidence of the last term on each pixel of a line, or of ``LINE``."""
    line = LINE if line is None else line
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


LINE = torch.linspace(0.1, 1, 8).double()
FOLD = torch.arange(8) % 4
EVEN = torch.arange(8) % 2 == 0


@pytest.mark.parametrize(
    "put_together",
    [
        lambda x: x[..., :4] + x[..., 4:],
        lambda x: x.unflatten(2, (2, 4)).sum(2),
        lambda x: torch.stack([x[..., :4], x[..., 4:]]).sum(0),
        lambda x: torch.zeros(1, 1, 4).double().index_add(2, FOLD, x),
        lambda x: torch.zeros(1, 1, 4).double().scatter_add(2, FOLD.expand(1, 1, 8), x),
        lambda x: torch.zeros(1, 1, 4).double().scatter_reduce(2, FOLD.expand(1, 1, 8), x, "sum"),
        lambda x: torch.zeros(4).double().index_put((FOLD,), x[0, 0], accumulate=True)[None, None],
        lambda x: F.conv1d(torch.cat([x[..., :4], x[..., 4:]], 1), torch.ones(1, 2, 1).double()),
        lambda x: x @ (FOLD[:, None] == torch.arange(4)).double(),
    ],
)
def test_a_sum_of_two_distant_elements_is_half_at_each(put_together):
    expected = _evidence(LINE[:4] + LINE[4:]).repeat(2) / 2
    found = _on_the_line(lambda x: _read(put_together(x)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


LONG = torch.linspace(0.1, 1, 24).double()


def _parts(x, count):
    """Parts of three elements, with elements between them that are left out."""
    step = x.shape[-1] // count
    return [x[..., start : start + 3] for start in range(0, x.shape[-1], step)]


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize(
    "add_up",
    [
        lambda parts: sum(parts[1:], parts[0]),
        lambda parts: torch.stack(parts).sum(0),
        lambda parts: torch.stack(parts, 3).mean(3) * len(parts),
        lambda parts: torch.stack(parts).unflatten(0, (1, -1)).sum((0, 1)),
        lambda parts: torch.einsum("knci->nci", torch.stack(parts)),
        lambda parts: F.conv1d(torch.cat(parts, 1), torch.ones(1, len(parts), 1).double()),
    ],
)
def test_a_sum_of_a_few_distant_parts_is_at_each_of_them(add_up, count):
    summed = sum(_parts(LONG, count))
    expected = torch.zeros(24).double()
    for part in _parts(expected, count):
        part += _evidence(summed) / count
    found = _on_the_line(lambda x: _read(add_up(_parts(x, count))), LONG)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("end", [6, 7, 8])
def test_a_sum_of_distant_means_is_half_in_each_cell_also_if_they_differ_in_size(end):
    evidence = _evidence((LINE[:2].mean() + LINE[3:end].mean()).reshape(1)) / 2
    expected = torch.zeros(8).double()
    expected[:2], expected[3:end] = evidence / 2, evidence / (end - 3)
    found = _on_the_line(
        lambda x: _read(x[..., :2].mean(2, keepdim=True) + x[..., 3:end].mean(2, keepdim=True))
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "add_up",
    [
        lambda x: x[..., 6:7] + x[..., 17:18],
        lambda x: x[..., [6, 17]].sum(2, keepdim=True),
        lambda x: torch.stack([x[..., 6], x[..., 17]], 2).sum(2, keepdim=True),
        lambda x: x[..., 6::11].sum(2, keepdim=True),
    ],
)
def test_a_sum_of_two_elements_is_at_both(add_up):
    expected = torch.zeros(24).double()
    expected[[6, 17]] = _evidence((LONG[6] + LONG[17]).reshape(1)) / 2
    torch.testing.assert_close(
        _on_the_line(lambda x: _read(add_up(x)), LONG), expected, rtol=1e-10, atol=1e-12
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
    found = _on_the_line(lambda x: _read(x.unflatten(2, parts).sum(2)), LONG)
    torch.testing.assert_close(found, expected.expand(24), rtol=1e-10, atol=1e-12)


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
    torch.testing.assert_close(
        _on_the_line(lambda x: _read(doubled(x))), expected, rtol=1e-10, atol=1e-12
    )


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
    torch.testing.assert_close(
        _on_the_line(lambda x: _read(halved(x))), expected, rtol=1e-10, atol=1e-12
    )


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
    found = _on_the_line(lambda x: (windows(x).sigmoid() * weight).sum((1, 2, 3)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_constant_that_is_added_in_place_to_every_other_element_is_there():
    def forward(x):
        y = x * 1.0
        y[..., ::2].add_(0.5)
        return (y * LINE).sum((1, 2))

    torch.testing.assert_close(_on_the_line(forward), 0.5 * LINE * EVEN)


TAPS = torch.tensor([[[1.0, 2.0, 3.0]]]).double()


@pytest.mark.parametrize("dilation", [1, 2])
def test_a_causal_convolution_is_where_its_windows_are(dilation):
    def padded(x):
        return _read(F.conv1d(F.pad(x, (2 * dilation, 0)), TAPS, dilation=dilation))

    def cut(x):
        z = F.conv1d(x, TAPS, padding=2 * dilation, dilation=dilation)
        return _read(z[..., : -2 * dilation])

    z = F.conv1d(F.pad(LINE[None, None], (2 * dilation, 0)), TAPS, dilation=dilation)[0, 0]
    expected = torch.zeros(8).double()
    for step, evidence in enumerate(_evidence(z)):
        middle = step - dilation
        # The middle of the first windows is padding: they are at the pixels that they see.
        at = slice(0, step + 1) if middle < 0 else slice(middle, middle + 1)
        expected[at] += evidence / len(expected[at])
    for forward in (padded, cut):
        torch.testing.assert_close(_on_the_line(forward), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dilations", [(1, 1), (1, 2), (2, 2), (2, 4)])
def test_two_causal_convolutions_have_one_map_in_both_forms(dilations):
    def padded(x, dilation):
        return F.conv1d(F.pad(x, (2 * dilation, 0)), TAPS, dilation=dilation)

    def cut(x, dilation):
        return F.conv1d(x, TAPS, padding=2 * dilation, dilation=dilation)[..., : -2 * dilation]

    def decomposed(first, second):
        return TGradAttribution(
            lambda x: _read(second(first(x, dilations[0]), dilations[1]))
        ).decompose(LINE[None, None])

    expected = decomposed(padded, padded)
    # Each unit sees a part of the line, so no evidence is spread evenly.
    torch.testing.assert_close(expected.placed, torch.ones(1).double())
    for forms in ((padded, cut), (cut, padded), (cut, cut)):
        found = decomposed(*forms)
        torch.testing.assert_close(found.terms[-1].positive, expected.terms[-1].positive)
    if dilations == (1, 1):
        z = padded(padded(LINE[None, None], 1), 1)[0, 0]
        by_hand = torch.zeros(8).double()
        for step, evidence in enumerate(_evidence(z)):
            by_hand[max(step - 2, 0)] += evidence  # each convolution is one step late
        found = _on_the_line(lambda x: _read(cut(cut(x, 1), 1)))
        torch.testing.assert_close(found, by_hand, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_that_repeats_elements_moves_no_place(mode, stride):
    def forward(x):
        return _read(F.conv1d(F.pad(x, (1, 1), mode), TAPS, stride=stride))

    z = F.conv1d(F.pad(LINE[None, None], (1, 1), mode), TAPS, stride=stride)[0, 0]
    expected = _evidence(z).repeat_interleave(stride) / stride
    torch.testing.assert_close(_on_the_line(forward), expected, rtol=1e-10, atol=1e-12)


def test_a_fourier_transform_there_and_back_moves_no_place():
    found = _on_the_line(lambda x: _read(torch.fft.irfft(torch.fft.rfft(x))))
    torch.testing.assert_close(found, _evidence(LINE), rtol=1e-10, atol=1e-12)


MIDDLE, CLASSES = (..., slice(10, 26)), torch.linspace(-1, 1, 30).reshape(6, 5).double()
SPARSE = torch.rand(32, 10, generator=torch.Generator().manual_seed(4)).double()
SPARSE = torch.where(SPARSE > 0.5, SPARSE, 0)
PICKED = torch.eye(32)[20].double()


def _classified(h):
    return (F.silu(h + 0.2) * torch.linspace(0.5, 2, h.shape[2]).double()).mean(2) @ CLASSES


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
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
def test_a_form_has_the_map_of_the_plain_form(form, plain, aggregation):
    weight = torch.linspace(-1, 1, 18).reshape(6, 3, 1).double()
    steps = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(5)).double()
    found, expected = (
        TGradAttribution(
            lambda x, read=read: _classified(read(F.relu(F.conv1d(x, weight))))
        ).attribute(steps, target=1, aggregation=aggregation)
        for read in (form, plain)
    )
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("sums", [2, 3])
@pytest.mark.parametrize("size", [8, 16])
def test_sums_of_few_elements_are_divided_equally_among_them(size, sums):
    select = torch.zeros(size, 3).double()
    select[[0, 2, 5], 0] = select[[1, 7], 1] = select[3, 2] = 1.0
    select = select[:, :sums]
    found = _on_the_line(lambda x: (x @ select + 1).sum((1, 2)), torch.ones(size).double())
    torch.testing.assert_close(found, (select / select.sum(0)).sum(1))


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


@pytest.mark.parametrize("aggregation", ["paper", "levels"])
def test_repeated_columns_of_a_sum_of_halves_are_those_of_a_resized_sum(aggregation):
    weight = torch.linspace(-1, 1, 54).reshape(2, 3, 3, 3).double()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(6)).double()

    def read(x, enlarged):
        h = enlarged(F.relu(x[..., :4, :]) + F.relu(x[..., 4:, :]))
        h = F.silu(F.conv2d(h, weight, padding=1) + 0.2)
        return (h * torch.linspace(0.5, 2, 16).double()).mean((1, 2, 3))

    found, expected = (
        TGradAttribution(lambda x, enlarged=enlarged: read(x, enlarged)).attribute(
            images, aggregation=aggregation
        )
        for enlarged in (
            lambda h: h.repeat_interleave(2, 3),
            lambda h: F.interpolate(h, scale_factor=(1, 2)),
        )
    )
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def test_attention_between_tokens_of_two_positions_keeps_those_of_the_query():
    def forward(x):
        shifted = F.pad(x, (3, 0))[..., :8]
        h = (x + shifted).mT
        return F.scaled_dot_product_attention(h, h, h)[:, -1].sum(1)

    inputs = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(0)).double()
    term = TGradAttribution(forward).decompose(inputs)["scaled_dot_product_attention"]
    evidence = (term.positive + term.negative)[0, 0]
    assert (evidence > 0).nonzero().flatten().tolist() == [4, 7]


def _softmax_attention(q, k, v, attn_mask=0):
    return (q @ k.mT / q.shape[-1] ** 0.5 + attn_mask).softmax(-1) @ v


@pytest.mark.parametrize("attention", [F.scaled_dot_product_attention, _softmax_attention])
def test_attention_among_points_in_another_order_acts_at_the_query(attention):
    """As of points that are sorted along a curve and cut into groups of five."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, 20, 4, generator=generator).double()
    order = torch.rand(2, 20, generator=generator).argsort()
    weights = torch.randn(20, 4, generator=generator).double()

    def in_groups(x, order):
        back = order.argsort()[..., None].expand_as(x)
        groups = x.take_along_dim(order[..., None], 1).reshape(-1, 5, 4)
        return attention(groups, groups, groups).view_as(x).gather(1, back)

    def masked(x, order):
        group = order.argsort()[..., None] // 5
        mask = torch.zeros(len(x), 20, 20).double().masked_fill(group != group.mT, -torch.inf)
        return attention(x, x, x, attn_mask=mask)

    def terms(attended):
        method = TGradAttribution(lambda x, at: (attended(x, at).tanh() * weights).sum((1, 2)))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return method.decompose(inputs, None, order, channel_dim=-1)

    expected = terms(masked)
    for found in terms(in_groups):
        torch.testing.assert_close(found.positive, expected[found.name].positive)
        torch.testing.assert_close(found.negative, expected[found.name].negative)


def test_residual_causal_convolutions_with_an_even_kernel_keep_the_resolution():
    kernels = torch.randn(6, 2, 2, 4, generator=torch.Generator().manual_seed(0)).double()

    def forward(x):
        for kernel in kernels:
            x = x + F.conv1d(F.pad(x, (3, 0)), kernel).tanh()
        return x[:, :, -1].sum(1)

    decomposition = TGradAttribution(forward).decompose(torch.ones(1, 2, 12).double())
    assert {term.resolution for term in decomposition} == {"12"}
    last = decomposition.biases[-1]
    assert (last.positive + last.negative)[0, 0].nonzero().flatten().tolist() == [10]


@pytest.mark.parametrize("left", [True, False])
def test_the_solution_of_a_triangular_system_is_the_product_with_the_inverse(left):
    matrix = torch.eye(8).double() - 0.5 * torch.eye(8).double().roll(1, 0).tril()
    inverse = torch.linalg.inv(matrix)
    head = torch.randn(4, generator=torch.Generator().manual_seed(1)).double()

    def network(solve):
        return lambda x: (
            solve(x if left else x.mT).reshape(len(x), -1)[:, 12:16].tanh() * head
        ).sum(1)

    solved = network(lambda z: torch.linalg.solve_triangular(matrix, z, upper=False, left=left))
    product = network(lambda z: inverse @ z if left else z @ inverse)
    inputs = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).double()
    found, expected = (
        TGradAttribution(f).decompose(inputs, channel_dim=-1) for f in (solved, product)
    )
    assert len(found) == len(expected)
    torch.testing.assert_close(found.map("all"), expected.map("all"), rtol=1e-10, atol=1e-12)


def test_the_solution_of_a_system_of_tokens_is_at_the_token_of_its_row():
    def forward(x):
        matrix = (x @ x.mT).tril(-1)
        solved = torch.linalg.solve_triangular(matrix, x, upper=False, unitriangular=True)
        return solved[:, 5].sum(1)

    inputs = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0)).double()
    term = TGradAttribution(forward).decompose(inputs, channel_dim=-1)["linalg_solve_triangular"]
    assert (term.positive + term.negative)[0, 0].nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("sizes", [(6, 8), (8, 6)])
def test_an_equal_crop_of_an_image_of_another_size_has_a_map_of_its_own(sizes):
    for size in sizes:
        x = torch.linspace(0.5, 1, size).double().reshape(1, 1, size)
        whole = TGradAttribution(lambda x: x[..., :4].square().sum((1, 2))).decompose(x)
        (squares,) = whole.biases  # b = x^2 - 2 x^2
        expected = F.pad(x[..., :4].square(), (0, size - 4))
        torch.testing.assert_close(squares.negative, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", [[0, 2, 5, 7], [6, 1, 3], [1, 2, 6]])
def test_a_convolution_over_all_chosen_rows_is_at_these_rows(rows):
    """As of the chosen electrodes of an EEG; one sum over them is the same."""
    inputs = torch.rand(2, 1, 8, 5, generator=torch.Generator().manual_seed(0)).double()
    weights = torch.rand(3, 1, len(rows), 1, generator=torch.Generator().manual_seed(1)).double()

    def convolved(x):
        return (F.silu(F.conv2d(x[:, :, rows], weights)) + 1).sum((1, 2, 3))

    def summed(x):
        h = torch.einsum("nchw,kch->nkw", x[:, :, rows], weights[..., 0])
        return (F.silu(h) + 1).sum((1, 2))

    one, other = (TGradAttribution(each).decompose(inputs) for each in (convolved, summed))
    for name in ("silu", "add"):
        torch.testing.assert_close(one[name].positive, other[name].positive)
        torch.testing.assert_close(one[name].negative, other[name].negative)
    torch.testing.assert_close(one.map(), other.map())
    shown = one["add"].positive[0, 0].sum(1).nonzero().flatten().tolist()
    assert shown == sorted(rows)


def test_a_residual_block_without_padding_has_the_grid_of_its_crop():
    """The convolution has cells of 8 / 6 pixels, because it covers the whole image."""
    kernel = torch.rand(3, 3, 3, 3).double()

    def network(x):
        return (x[..., 1:-1, 1:-1] + F.conv2d(x, kernel)).tanh().sum((1, 2, 3))

    found = TGradAttribution(network).decompose(torch.rand(1, 3, 8, 8).double())["tanh"].maps[0]
    for cells in found.grid.axes:
        assert cells.tolist() == [[middle, 1] for middle in range(1, 7)]
