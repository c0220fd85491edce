"""A bias is put where it acts: each network here adds one known constant at one known place."""

import pytest
import torch
import torch.nn.functional as F

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_same_maps, randn

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
    q, k, v = (randn(C, 5, seed=seed) for seed in (1, 2, 3))

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


POOLS = {
    "pooling": lambda x: F.avg_pool2d(x, 2),
    "convolution": lambda x: F.conv2d(x, torch.ones(1, C, 2, 2).double(), stride=2),
}


def _added_at(cells, network):
    """The evidence of constants that are added to the sum over channels."""
    method = TGradAttribution(lambda x: (network(x).sum(1) + cells).sum((1, 2)))
    (term,) = method.decompose(X).biases
    return term.positive


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_what_is_beside_a_padded_image_is_spread_evenly(pool):
    # Two rows above and four columns to the left, then two by two: 3 x 5 cells, of which the last
    # 2 x 3 are the image's.
    cells = torch.arange(15.0, dtype=torch.float64).reshape(3, 5)
    image = cells[1:, 2:]
    expected = image + (cells.sum() - image.sum()) / 6
    found = _added_at(cells, lambda x: pool(F.pad(x, (4, 0, 2, 0))))
    torch.testing.assert_close(found, expected.expand(N, 1, 2, 3))


def test_padding_that_a_stride_leaves_out():
    # A kernel of 3 with stride 2 on one more row and column: 2 x 3 cells, all of them the image's.
    spot, weight = torch.zeros(2, 3).double(), torch.ones(1, C, 3, 3).double()
    spot[1, 2] = 5.0
    found = _added_at(spot, lambda x: F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, stride=2))
    torch.testing.assert_close(found, spot.expand(N, 1, 2, 3))


def test_every_other_row_of_a_padded_image():
    # Rows 0, 2, 4 and 6 of which 2 to 5 are the image's.
    cells = torch.arange(4.0, dtype=torch.float64)[:, None].expand(4, W)
    found = _added_at(cells, lambda x: F.pad(x, (0, 0, 2, 2))[:, :, ::2])
    torch.testing.assert_close(found, (cells[1:3] + (0.0 + 3.0) / 2).expand(N, 1, 2, W))


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


def test_repeated_columns_of_a_sum_of_halves_are_those_of_a_resized_sum():
    weight = torch.linspace(-1, 1, 54).reshape(2, 3, 3, 3).double()

    def network(enlarged):
        def forward(x):
            h = enlarged(F.relu(x[..., :4, :]) + F.relu(x[..., 4:, :]))
            h = F.silu(F.conv2d(h, weight, padding=1) + 0.2)
            return (h * torch.linspace(0.5, 2, 16).double()).mean((1, 2, 3))

        return forward

    resized = network(lambda h: F.interpolate(h, scale_factor=(1, 2)))
    assert_same_maps(network(lambda h: h.repeat_interleave(2, 3)), resized, randn(2, 3, 8, 8))


def test_attention_between_tokens_of_two_positions_keeps_those_of_the_query():
    def forward(x):
        shifted = F.pad(x, (3, 0))[..., :8]
        h = (x + shifted).mT
        return F.scaled_dot_product_attention(h, h, h)[:, -1].sum(1)

    term = TGradAttribution(forward).decompose(randn(1, 2, 8))["scaled_dot_product_attention"]
    evidence = (term.positive + term.negative)[0, 0]
    assert (evidence > 0).nonzero().flatten().tolist() == [4, 7]


def _softmax_attention(q, k, v, attn_mask=0):
    return (q @ k.mT / q.shape[-1] ** 0.5 + attn_mask).softmax(-1) @ v


@pytest.mark.parametrize("attention", [F.scaled_dot_product_attention, _softmax_attention])
def test_attention_among_points_in_another_order_acts_at_the_query(attention):
    """As of points that are sorted along a curve and cut into groups of five."""
    order, weights = torch.rand(2, 20).argsort(), torch.randn(20, 4).double()

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
        return method.decompose(randn(2, 20, 4), None, order, channel_dim=-1)

    expected = terms(masked)
    for found in terms(in_groups):
        torch.testing.assert_close(found.positive, expected[found.name].positive)
        torch.testing.assert_close(found.negative, expected[found.name].negative)


def test_residual_causal_convolutions_with_an_even_kernel_keep_the_resolution():
    kernels = randn(6, 2, 2, 4)

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
    head = randn(4, seed=1)

    def network(solve):
        return lambda x: (
            solve(x if left else x.mT).reshape(len(x), -1)[:, 12:16].tanh() * head
        ).sum(1)

    solved = network(lambda z: torch.linalg.solve_triangular(matrix, z, upper=False, left=left))
    product = network(lambda z: inverse @ z if left else z @ inverse)
    assert_same_maps(solved, product, randn(2, 8, 4), rtol=1e-10, atol=1e-12, channel_dim=-1)


def test_the_solution_of_a_system_of_tokens_is_at_the_token_of_its_row():
    def forward(x):
        matrix = (x @ x.mT).tril(-1)
        solved = torch.linalg.solve_triangular(matrix, x, upper=False, unitriangular=True)
        return solved[:, 5].sum(1)

    found = TGradAttribution(forward).decompose(randn(1, 8, 4), channel_dim=-1)
    term = found["linalg_solve_triangular"]
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
    weights = torch.rand(3, 1, len(rows), 1).double()

    def convolved(x):
        return (F.silu(F.conv2d(x[:, :, rows], weights)) + 1).sum((1, 2, 3))

    def summed(x):
        h = torch.einsum("nchw,kch->nkw", x[:, :, rows], weights[..., 0])
        return (F.silu(h) + 1).sum((1, 2))

    found = assert_same_maps(convolved, summed, torch.rand(2, 1, 8, 5).double())
    shown = found["add"].positive[0, 0].sum(1).nonzero().flatten().tolist()
    assert shown == sorted(rows)


def test_a_residual_block_without_padding_has_the_grid_of_its_crop():
    """The convolution has cells of 8 / 6 pixels, because it covers the whole image."""
    kernel = torch.rand(3, 3, 3, 3).double()

    def network(x):
        return (x[..., 1:-1, 1:-1] + F.conv2d(x, kernel)).tanh().sum((1, 2, 3))

    found = TGradAttribution(network).decompose(torch.rand(1, 3, 8, 8).double())["tanh"].maps[0]
    for cells in found.grid.axes:
        assert cells.tolist() == [[middle, 1] for middle in range(1, 7)]


_WEIGHT, _BIAS = randn(3, 3, seed=1), randn(3, seed=2)


@pytest.mark.parametrize(
    ("plain", "of_rows"),
    [
        (lambda t: F.linear(t, _WEIGHT, _BIAS), lambda t: F.linear(t, _WEIGHT, _BIAS)),
        (lambda t: F.linear(t, _WEIGHT, _BIAS), lambda t: torch.addmm(_BIAS, t, _WEIGHT.T)),
        (lambda t: F.layer_norm(t, [3]), lambda t: F.layer_norm(t, [3])),
        (lambda t: t * t.sigmoid(), lambda t: t * t.sigmoid()),
    ],
    ids=["linear", "addmm", "layer_norm", "gate"],
)
def test_elements_at_two_places_keep_both_in_one_dimension_of_windows_and_tokens(plain, of_rows):
    """The queries of all windows are the same tokens of the whole image, as in GCViT."""
    weights = randn(8, 8, 3, seed=3)

    def network(x, layer):
        windows = x.reshape(-1, 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 3)
        queries = F.avg_pool2d(x, 2).flatten(2).mT.repeat_interleave(4, 0)
        h = layer((queries @ windows.mT).softmax(2) @ windows)
        h = h.reshape(-1, 2, 2, 4, 4, 3).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 3)
        return ((h + x.movedim(1, 3)).tanh() * weights).sum((1, 2, 3))

    assert_same_maps(
        lambda x: network(x, lambda t: F.silu(of_rows(t.flatten(0, 1)))),
        lambda x: network(x, lambda t: F.silu(plain(t))),
        randn(2, 3, 8, 8),
    )


@pytest.mark.parametrize("is_folded", [True, False])
def test_the_class_token_of_a_frame_is_at_this_frame(is_folded):
    video = torch.rand(N, C, 4, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    added = torch.zeros(4, 7).double()
    added[:, 0] = torch.arange(1.0, 5.0)  # at the class token of each frame

    def forward(x):
        tokens = x.permute(0, 2, 3, 4, 1).flatten(2, 3)  # (N, frames, 6, C)
        tokens = tokens.flatten(0, 1) if is_folded else tokens
        tokens = torch.cat([tokens.new_zeros(*tokens.shape[:-2], 1, C), tokens], -2)
        return (tokens.sum(-1).view(len(x), 4, 7) + added).sum((1, 2))

    term = TGradAttribution(forward).decompose(video).biases[-1]
    expected = (added[:, :1, None] / 6).expand(N, 1, 4, 2, 3)
    torch.testing.assert_close(term.positive, expected)
    torch.testing.assert_close(term.maps[0].placed, torch.ones(N).double())
