"""Sums of elements from several positions, written in several ways, alone and in a batch."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import (
    assert_as_alone,
    assert_complete,
    assert_same_maps,
    filled,
    randn,
)

WIDTH, SIZE, STEPS, EXPERTS = 6, 12, 6, 4
CONV = filled(nn.Conv2d(3, WIDTH, 3, padding=1), seed=1)
POINTWISE = filled(nn.Conv2d(WIDTH, WIDTH, 1), seed=3)
LAST = filled(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), seed=5)
HEAD = randn(WIDTH, 5, seed=7)
ROWS = torch.linspace(0, 1, SIZE).double()
SHUFFLED = torch.randperm(SIZE**2, generator=torch.Generator().manual_seed(11))
TWO_ONES = torch.ones(WIDTH, 2, 1, 1).double()

MOVES = {
    "transposed": lambda h: h.mT,
    "turned by 90 degrees": lambda h: h.mT.flip(2),
    "turned by 180 degrees": lambda h: h.flip(2, 3),
    "flipped": lambda h: h.flip(3),
    "upside down, one column to the right": lambda h: F.pad(h.flip(2)[..., :-1], (1, 0)),
    "shuffled": lambda h: h.flatten(2)[..., SHUFFLED].view_as(h),
    "a crop at its own position": lambda h: F.pad(h[..., 2:10, 3:9], (3, 3, 2, 2)).flip(3),
    "rows shuffled": lambda h: h[:, :, SHUFFLED[SHUFFLED < SIZE]],
}
SUMS = {
    "stack": lambda a, b: POINTWISE(torch.stack([a, b]).sum(0)),
    "stack behind channels": lambda a, b: POINTWISE(2 * torch.stack([a, b], 2).mean(2)),
    "einsum": lambda a, b: POINTWISE(
        torch.einsum("k,knchw->nchw", torch.ones(2).double(), torch.stack([a, b]))
    ),
    "convolution": lambda a, b: F.conv2d(
        torch.cat([a, b], 1), POINTWISE.weight.repeat(1, 2, 1, 1), POINTWISE.bias
    ),
    "grouped convolution": lambda a, b: POINTWISE(
        F.conv2d(torch.stack([a, b], 2).flatten(1, 2), TWO_ONES, groups=WIDTH)
    ),
    "linear": lambda a, b: POINTWISE(
        F.linear(
            torch.cat([a, b], 1).movedim(1, 3), torch.eye(WIDTH).double().repeat(1, 2)
        ).movedim(3, 1)
    ),
    "tokens": lambda a, b: POINTWISE((a.flatten(2) + b.flatten(2)).view_as(a)),
}


@pytest.mark.parametrize("add", SUMS.values(), ids=SUMS)
@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_an_image_and_itself_in_another_orientation(move, add):
    def network(add):
        def forward(x):
            h = F.gelu(CONV(x))
            return (F.gelu(LAST(F.gelu(add(h, move(h))))) * ROWS).mean((2, 3)) @ HEAD

        return forward

    plain = network(lambda a, b: POINTWISE(a + b))
    assert_same_maps(network(add), plain, randn(2, 3, SIZE, SIZE, seed=9), 1)


TOKENS = randn(2, STEPS, 4, seed=21)
TOKEN_HEAD = filled(nn.Linear(4, 3), seed=23)


KEPT = [[[2, 3, 5], [0, 2, 5]], [[0, 2, 4], [0, 2, 5]], [[0, 5, 3], [1, 3, 5]], [[0, 2], [3, 5]]]


@pytest.mark.parametrize("reduce", [torch.mean, torch.sum])
@pytest.mark.parametrize("kept", KEPT)
def test_tokens_that_are_chosen_for_each_sample_are_where_they_are_alone(kept, reduce):
    def forward(x, kept):
        return TOKEN_HEAD(reduce(x.gather(1, kept[..., None].expand(-1, -1, 4)), 1).tanh())

    kept = torch.tensor(kept)
    assert_as_alone(forward, TOKENS, kept, target=1, channel_dim=-1)
    found = TGradAttribution(forward).decompose(TOKENS, 1, kept, channel_dim=-1)
    others = torch.ones(2, 1, STEPS).scatter(2, kept[:, None], 0)
    assert float((found.map("all") * others).abs().sum()) < 1e-9


NEIGHBORS = torch.tensor([[2, 4], [3, 5], [0, 5], [1, 5], [0, 2], [1, 3]])  # of each token
NEIGHBORS = torch.stack([NEIGHBORS, NEIGHBORS.flip(0)])


@pytest.mark.parametrize("reduce", [torch.amax, torch.sum, torch.mean])
def test_tokens_and_their_neighbors_in_each_sample_are_where_they_are_alone(reduce):
    def forward(x, own):
        around = torch.stack([tokens[each] for tokens, each in zip(x, own, strict=True)])
        return (TOKEN_HEAD(reduce(around, 2)).tanh() * ROWS[:STEPS, None]).sum(1)

    own = torch.cat([torch.arange(STEPS).expand(2, -1)[..., None], NEIGHBORS], 2)
    assert_as_alone(forward, TOKENS, own, target=1, channel_dim=-1)


CENTERS = torch.tensor([[0, 3, 4], [1, 3, 5]])  # the same number of each sample
WEIGHTS_OF_GROUPS = randn(12, seed=25)


@pytest.mark.parametrize("combine", [torch.sub, torch.mul])
def test_neighbors_of_tokens_that_each_sample_chooses_are_where_they_are_alone(combine):
    def forward(x, centers, neighbors):
        rows = torch.arange(len(x))[:, None]
        around = x[rows[..., None], neighbors[rows, centers]]
        groups = combine(around, x[rows, centers][:, :, None])
        return F.silu(groups + 0.5).amax(2).flatten(1) @ WEIGHTS_OF_GROUPS

    assert_as_alone(forward, TOKENS, CENTERS, NEIGHBORS, channel_dim=-1)


LINE = randn(2, 20, 3, seed=27)
GROUPS = torch.stack([torch.arange(20), randn(20, seed=28).argsort()]).view(2, 4, 5)


@pytest.mark.parametrize("reduce", [torch.sum, torch.mean, lambda h: h @ torch.ones_like(h)])
@pytest.mark.parametrize("chosen", [[4], [2, 9], [0, 3, 7], [0, 1, 5, 7, 8, 9], [9, 2, 7, 4, 0]])
def test_chosen_elements_without_further_dimensions(chosen, reduce):
    x = torch.linspace(1, 2, 12).double()[None]
    shifted = torch.zeros_like(x).index_fill(1, torch.tensor(chosen), 1) * (x + 1)
    expected = shifted * (1 / len(chosen) if reduce is torch.mean else 1)

    def forward(x):
        return reduce((x + 1).flatten()[chosen]).reshape(1)

    attribution = TGradAttribution(forward).attribute(x, channel_dim=None)
    torch.testing.assert_close(attribution, expected, rtol=1e-10, atol=1e-10)


def test_scattered_elements_of_one_sample_lose_no_places_of_another():
    def decomposed(samples):
        def forward(x):
            parts = torch.stack([each[at] for each, at in zip(x, GROUPS[samples], strict=True)])
            return F.silu(parts.amax(2) + 0.5).flatten(1) @ WEIGHTS_OF_GROUPS

        return TGradAttribution(forward).decompose(LINE[samples], channel_dim=-1)

    together, near = decomposed(slice(0, 2)), decomposed(slice(0, 1))
    with pytest.warns(UserWarning, match="loses the positions of its input: 'amax'"):
        far = decomposed(slice(1, 2))
    for sample, alone in enumerate((near, far)):
        torch.testing.assert_close(
            together.map("all")[sample : sample + 1], alone.map("all"), rtol=1e-10, atol=1e-12
        )
    assert together["silu"].placed.tolist() == [1, 0]


PATCHES = randn(2, 4, 6, 6, seed=29)
SHOWN = torch.tensor([[0, 1, 9, 10, 18, 19], [0, 7, 14, 21, 28, 35]])  # without some columns


def test_shown_patches_among_constant_ones_are_where_they_are_alone():
    """As in the decoder of a masked autoencoder."""
    weights = randn(36, 4, seed=30)

    def forward(x, shown):
        rows, canvas = torch.arange(len(x))[:, None], torch.full((len(x), 36, 4), 0.2).double()
        canvas[rows, shown] = x.flatten(2).mT[rows, shown].tanh()
        mixed = (canvas @ canvas.mT).softmax(2) @ canvas
        return (F.silu(mixed + 0.5) * weights).sum((1, 2))

    assert_as_alone(forward, PATCHES, SHOWN)


GATE = randn(4, EXPERTS, seed=31)
EXPERT = nn.ModuleList(
    filled(nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4)), seed=33 + 4 * number)
    for number in range(EXPERTS)
)


def _every_expert(tokens, weights):
    return sum(expert(tokens) * weights[..., e, None] for e, expert in enumerate(EXPERT))


def _routed(add, tokens, weights):
    """Each expert gets its own tokens, of all samples, and adds its results to theirs."""
    tokens, weights = tokens.flatten(0, 1), weights.flatten(0, 1)
    result = torch.zeros_like(tokens)
    for e, expert in enumerate(EXPERT):
        (own,) = torch.where(weights[:, e] > 0)
        result = add(result, own, expert(tokens[own]) * weights[own, e, None])
    return result.unflatten(0, (-1, STEPS))


def _written(result, own, values):
    result[own] += values
    return result


ADDED = {
    "index_add": lambda result, own, values: result.index_add(0, own, values),
    "index_add_": lambda result, own, values: result.index_add_(0, own, values),
    "scatter_add": lambda result, own, values: result.scatter_add(
        0, own[:, None].expand_as(values), values
    ),
    "assignment": _written,
}


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
@pytest.mark.parametrize("n", [1, 2])
def test_tokens_of_a_mixture_of_experts_keep_their_places(add, n):
    def forward(x, mixture):
        scores = (x @ GATE).softmax(-1)
        weights = scores * (scores == scores.amax(-1, keepdim=True))
        return TOKEN_HEAD((F.gelu(mixture(x, weights)) * ROWS[:STEPS, None]).mean(1))

    forms = (partial(forward, mixture=each) for each in (partial(_routed, add), _every_expert))
    paper = ["paper"]  # by levels, the term of an expert with one token may be left out
    found = assert_same_maps(*forms, TOKENS[:n], 1, aggregations=paper, channel_dim=-1)
    assert all(float(term.placed.min()) == 1 for term in found if term.name == "gelu")


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
def test_an_expert_that_gets_tokens_of_one_sample_only(add):
    def forward(x, routes):
        tokens, expert_of = x.flatten(0, 1), routes.flatten()
        result = torch.zeros_like(tokens)
        for e in expert_of.unique().tolist():
            (own,) = torch.where(expert_of == e)
            result = add(result, own, EXPERT[e](tokens[own]))
        return TOKEN_HEAD((F.gelu(result.unflatten(0, (-1, STEPS))) * ROWS[:STEPS, None]).mean(1))

    routes = torch.tensor([[0, 0, 1, 0, 1, 2], [1, 1, 2, 2, 2, 1]])
    assert_as_alone(forward, TOKENS, routes, target=1, aggregations=["paper"], channel_dim=-1)


@pytest.mark.parametrize("add", ADDED.values(), ids=ADDED)
@pytest.mark.parametrize("chosen", [[0, 3], [1, 4, 7, 10], [0, 2, 4], [0, 1, 2, 3, 4, 5, 9, 11]])
def test_tokens_next_to_unchosen_ones_have_the_same_map_in_a_batch_as_alone(chosen, add):
    def forward(x, is_chosen):
        tokens, (own,) = x.flatten(0, 1) * 1, torch.where(is_chosen.flatten())
        if len(own):
            tokens = add(tokens, own, F.gelu(EXPERT[0](tokens[own])))
        later = F.gelu(EXPERT[1](tokens.unflatten(0, (-1, STEPS))))
        return TOKEN_HEAD((later * ROWS[:STEPS, None]).mean(1))

    is_chosen = torch.isin(torch.arange(2 * STEPS), torch.tensor(chosen)).view(2, STEPS)
    assert_as_alone(forward, TOKENS, is_chosen, target=1, channel_dim=-1)


@pytest.mark.skipif(not hasattr(F, "grouped_mm"), reason="this torch has no grouped_mm")
def test_experts_in_one_grouped_product_have_the_map_of_separate_ones():
    weights, gate = randn(EXPERTS, 4, 8, seed=43).float(), GATE.float()
    head = randn(8, 3, seed=44).float()

    def forward(x, product):
        tokens = x.flatten(0, 1)
        expert = (tokens @ gate).argmax(1)
        order = expert.argsort(stable=True)
        ends = expert.bincount(minlength=EXPERTS).cumsum(0).int()
        results = F.gelu(product(tokens[order], ends))[order.argsort()]
        return (results.unflatten(0, (-1, STEPS)) * ROWS[:STEPS, None].float()).mean(1) @ head

    def grouped(tokens, ends):
        return F.grouped_mm(tokens, weights, offs=ends)

    def separate(tokens, ends):
        starts = [0, *ends.tolist()]
        products = [tokens[starts[e] : starts[e + 1]] @ weights[e] for e in range(EXPERTS)]
        return torch.cat([product for product in products if len(product)])

    methods = (TGradAttribution(partial(forward, product=each)) for each in (grouped, separate))
    found, expected = (each.attribute(TOKENS.float(), 1, channel_dim=-1) for each in methods)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "add",
    [
        lambda h, to, of: torch.zeros_like(h).index_add(1, to, h[:, of]),
        lambda h, to, of: torch.zeros_like(h).scatter_add(
            1, to[:, None].expand(len(h), -1, h.shape[2]), h[:, of]
        ),
    ],
    ids=["index_add", "scatter_add"],
)
def test_links_in_any_order_and_twice_have_the_map_of_their_matrix(add):
    generator = torch.Generator().manual_seed(3)
    to, of = torch.randint(0, 12, (2, 20), generator=generator)
    to, of = torch.cat([to, to[:6]]), torch.cat([of, of[:6]])
    matrix = torch.zeros(12, 12).double()
    matrix.index_put_((to, of), torch.ones(26).double(), accumulate=True)
    first, last = filled(nn.Linear(4, 6), seed=41), filled(nn.Linear(6, 3), seed=43)

    def forward(x, pass_on):
        h = F.gelu(pass_on(F.gelu(first(x)))) * torch.linspace(0, 1, 12).double()[:, None]
        return last(h.sum(1))

    written = lambda h: add(h, to, of), lambda h: matrix @ h
    forms = (partial(forward, pass_on=each) for each in written)
    assert_same_maps(*forms, randn(2, 12, 4, seed=45), 1, channel_dim=-1)


# Tokens of the even columns of an image are added to tokens of its odd columns: two or more to one
# token, from one row, from adjacent rows, and from rows and columns apart.
ADDENDS = torch.tensor([[(1, 0), (2, 0), (2, 2), (4, 4)], [(3, 4), (4, 2), (3, 2), (0, 0)]])
SUMS_AT = torch.tensor([[(5, 5), (3, 3), (3, 3), (2, 5)], [(3, 1), (3, 1), (2, 5), (0, 5)]])
IMAGES = randn(2, 2, 6, 6, seed=51)


def _scattered(into, source, at):
    return into.scatter_add(1, at[..., None].expand_as(source), source)


MERGED = {
    "scatter_add": _scattered,
    "index_add": lambda into, source, at: torch.stack(
        [each.index_add(0, i, own) for each, i, own in zip(into, at, source, strict=True)]
    ),
    "sum": lambda into, source, at: into + _scattered(torch.zeros_like(into), source, at),
    "matrix": lambda into, source, at: into + F.one_hot(at, 18).double().mT @ source,
}
PICKED = {
    "gather": lambda tokens, at: tokens.gather(1, at[..., None].expand(-1, -1, 2)),
    "one_hot": lambda tokens, at: F.one_hot(at, 18).double() @ tokens,
}


def _divided_among_merged(image, addends, sums):
    """The squares of the sums, divided equally among their summands."""
    evidence = torch.zeros_like(image[0])
    for at in torch.cartesian_prod(torch.arange(6), torch.arange(1, 6, 2)).tolist():
        own = [source for source, to in zip(addends, sums, strict=True) if to == at] + [at]
        square = sum(image[:, row, column] for row, column in own).square().sum()
        for row, column in own:
            evidence[row, column] += square / len(own)
    return evidence


def _assert_merged_tokens_are_in_place(merge, pick, images, addends, sums):
    source, to = (at[..., 0] * 3 + at[..., 1] // 2 for at in (addends, sums))

    def forward(x):
        even, odd = (x[..., first::2].flatten(2).mT for first in (0, 1))
        return merge(odd, pick(even, source), to).square().sum((1, 2))

    term = TGradAttribution(forward).decompose(images).terms[-1]
    expected = map(_divided_among_merged, images, addends.tolist(), sums.tolist())
    torch.testing.assert_close(term.positive + term.negative, torch.stack(list(expected))[:, None])


@pytest.mark.parametrize("samples", [slice(0, 2), slice(0, 1), slice(1, 2)])
@pytest.mark.parametrize("pick", PICKED.values(), ids=PICKED)
@pytest.mark.parametrize("merge", MERGED.values(), ids=MERGED)
def test_merged_tokens_are_where_their_summands_are(merge, pick, samples):
    given = (each[samples] for each in (IMAGES, ADDENDS, SUMS_AT))
    _assert_merged_tokens_are_in_place(merge, pick, *given)


@pytest.mark.parametrize("pick", PICKED.values(), ids=PICKED)
@pytest.mark.parametrize("merge", [MERGED["scatter_add"], MERGED["index_add"]])
def test_merged_tokens_of_one_column(merge, pick):
    addends = torch.tensor([[(1, 0), (5, 0), (2, 0), (4, 0)]])
    sums = torch.tensor([[(1, 1), (1, 1), (3, 3), (3, 3)]])
    _assert_merged_tokens_are_in_place(merge, pick, IMAGES[:1], addends, sums)


@pytest.mark.parametrize("merge", MERGED.values(), ids=MERGED)
@pytest.mark.parametrize("samples", [slice(0, 2), slice(0, 1), slice(1, 2)])
def test_a_mean_of_merged_tokens_depends_on_the_whole_image(merge, samples):
    """As in an image classifier whose tokens are merged and then averaged."""

    def forward(x):
        even, odd = (x[..., first::2].flatten(2).mT for first in (0, 1))
        merged = merge(odd, PICKED["gather"](even, source), to)
        return F.gelu(torch.cat([even, merged], 1).mean(1)).sum(1)

    source, to = (at[samples, :, 0] * 3 + at[samples, :, 1] // 2 for at in (ADDENDS, SUMS_AT))
    term = TGradAttribution(forward).decompose(IMAGES[samples]).terms[-1]
    assert not term.lost_at
    torch.testing.assert_close(term.placed, torch.zeros_like(term.placed))


@pytest.mark.parametrize("merge", [MERGED["scatter_add"], MERGED["index_add"]])
def test_tokens_that_nothing_is_added_to_stay_in_place(merge):
    of_one_column = torch.tensor([[(1, 0), (2, 0), (2, 2), (4, 0)]])  # but for a second summand
    given = IMAGES[:1], of_one_column, SUMS_AT[:1]
    _assert_merged_tokens_are_in_place(merge, PICKED["gather"], *given)


@pytest.mark.parametrize(
    "mix",
    [
        lambda h: h.cumsum(1),
        lambda h: h.cumsum(1) / torch.arange(1, STEPS + 1)[:, None],
        lambda h: torch.ones(STEPS, STEPS).double().tril() @ h,
        lambda h: torch.stack([h[:, : step + 1].sum(1) for step in range(STEPS)], 1),
        lambda h: h.flip(1).cumsum(1).flip(1),
    ],
    ids=["cumsum", "mean", "matrix", "slices", "backwards"],
)
def test_a_token_with_the_sum_of_those_up_to_it_is_at_its_own_position(mix):
    """As in a residual stream with linear attention or a state space model."""
    weights = randn(STEPS, 4, seed=47)

    def forward(x):
        return (F.silu(x + mix(x)) * weights).sum((1, 2))

    (term,) = [
        t for t in TGradAttribution(forward).decompose(TOKENS, channel_dim=-1) if t.name == "silu"
    ]
    z = TOKENS + mix(TOKENS)
    bias = z * z.sigmoid() * (z * z.sigmoid() - z)
    torch.testing.assert_close(term.positive[:, 0], (weights * bias).clamp_min(0).sum(2))


def test_boxes_by_corners_of_cumulative_sums_have_no_empty_cells():
    images = randn(2, 1, 8, 8, seed=48)
    weights = randn(6, 6, seed=49)

    def forward(x):
        sums = F.pad(x.cumsum(2).cumsum(3), (1, 0, 1, 0))
        ends, starts = slice(3, None), slice(None, -3)
        corners = [sums[:, 0, i, j] for i in (ends, starts) for j in (ends, starts)]
        boxes = corners[0] + corners[3] - corners[1] - corners[2]
        return (F.silu(boxes) * weights).sum((1, 2))

    found = TGradAttribution(forward).decompose(images)
    assert bool(found.map(aggregation="levels").isfinite().all())
    assert_complete(found)


LENGTHS = torch.tensor([[2, 1, 3], [3, 2, 1]])


def _by_segment(h, reduced, lengths=LENGTHS):
    parts = [part.split(own.tolist()) for part, own in zip(h, lengths, strict=False)]
    return torch.stack([torch.stack([reduced(each) for each in part]) for part in parts])


SEGMENTS = {
    "sum": lambda part: part.sum(0),
    "mean": lambda part: part.mean(0),
    "max": lambda part: part.amax(0),
    "min": lambda part: part.amin(0),
}


@pytest.mark.parametrize("kind", SEGMENTS)
@pytest.mark.parametrize("form", ["lengths", "offsets", "flat"])
def test_segments_are_at_their_tokens(kind, form):
    tokens, weights = randn(2, 6, 5, seed=50), randn(3, 4, seed=51)
    layer = randn(5, 4, seed=52)
    offsets = F.pad(LENGTHS.cumsum(1), (1, 0))

    def segments(h):
        if form == "flat":
            rows, lengths = h.flatten(0, 1), LENGTHS[: len(h)].flatten()
            return torch.segment_reduce(rows, kind, lengths=lengths).view(len(h), 3, -1)
        given = {"lengths": LENGTHS, "offsets": offsets}[form][: len(h)]
        return torch.segment_reduce(h, kind, axis=1, **{form: given})

    def classified(reduced):
        return lambda x: (F.silu(reduced(F.silu(x) @ layer)) * weights).sum((1, 2))

    plain = classified(lambda h: _by_segment(h, SEGMENTS[kind]))
    assert_same_maps(classified(segments), plain, tokens, channel_dim=-1)


def _in_bags(h, bags, given):
    if given == "weights":
        weights = h.softmax(2).flatten(0, 1)
        index, table, options = BAG_ROWS[: len(weights)], BAG_TABLE, {"mode": "sum"}
    else:
        index, table = torch.arange(h[..., 0].numel()).view(-1, 2), h.flatten(0, 1)
        weights, options = None, {"mode": given}
    if bags == "with offsets":
        options["offsets"] = torch.arange(0, index.numel(), index.shape[1])
        index, weights = index.flatten(), weights if weights is None else weights.flatten()
    return F.embedding_bag(index, table, per_sample_weights=weights, **options)


def _in_bags_by_hand(h, bags, given):
    if given == "weights":
        weights = h.softmax(2).flatten(0, 1)
        return (BAG_TABLE[BAG_ROWS[: len(weights)]] * weights[..., None]).sum(1)
    pairs = h.flatten(0, 1).view(-1, 2, h.shape[2])
    return {"sum": pairs.sum(1), "mean": pairs.mean(1), "max": pairs.amax(1)}[given]


BAG_TABLE = randn(9, 4, seed=53)
BAG_ROWS = torch.randint(9, (12, 4), generator=torch.Generator().manual_seed(54))


@pytest.mark.parametrize("bags", ["equal", "with offsets"])
@pytest.mark.parametrize("given", ["weights", "sum", "mean", "max"])
def test_bags_of_embeddings_are_at_the_tokens_of_their_rows_and_weights(bags, given):
    tokens, layer = randn(2, 6, 5, seed=50), randn(5, 4, seed=52)

    def classified(bagged):
        def forward(x):
            h = F.silu(bagged(F.silu(x) @ layer, bags, given)).view(len(x), -1, 4)
            return (h * randn(h.shape[1], 4, seed=55)).sum((1, 2))

        return forward

    whole, plain = classified(_in_bags), classified(_in_bags_by_hand)
    for samples in (tokens, tokens[1:]):
        found = assert_same_maps(whole, plain, samples, channel_dim=-1)
    assert float(found.map().std()) > 0


def test_sums_of_neighbors_at_many_positions_each_are_no_nodes():
    """The numbers of all places that these elements may have do not fit in an integer."""
    generator = torch.Generator().manual_seed(56)
    orders = [torch.randperm(256, generator=generator) for _ in range(14)]
    neighbors = torch.stack([torch.randperm(256, generator=generator)[:9] for _ in range(256)])
    weights = randn(256, seed=57)

    def forward(x):
        x = x.tanh()
        h = sum(x[:, order] * (number + 1) for number, order in enumerate(orders))
        return h[:, neighbors].sum(2).tanh().sum(2) @ weights

    with pytest.warns(UserWarning, match="loses the positions of its input: 'sum'"):
        whole = TGradAttribution(forward).decompose(randn(2, 256, 2, seed=58), channel_dim=None)
    assert_complete(whole)


ELEMENTS = {  # which elements each of four sums has
    "columns, some across both ends": (4 * torch.arange(4)[:, None] + torch.arange(-1, 5)) % 16,
    "patches": torch.tensor([0, 9, 1, 8])[:, None] + torch.tensor([0, 1, 2, 4, 5, 6]),
}
GIVEN = {
    "matrix": lambda h, at: h @ F.one_hot(at, h.shape[-1]).sum(1).to(h).mT,
    "index_add": lambda h, at: h.new_zeros(*h.shape[:-1], len(at)).index_add(
        -1, torch.arange(len(at)).repeat_interleave(at.shape[1]), h[..., at.flatten()]
    ),
}


@pytest.mark.parametrize("elements", ELEMENTS)
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_sums_of_many_elements_have_one_map_however_these_are_given(given, elements):
    side = 4 if elements == "patches" else 1
    image = randn(2, 3, side, 16 // side, seed=60)
    weights = torch.tensor([1.0, 2.0, 4.0, 8.0]).double()

    def network(add):
        def sums(x):
            return (add(x.flatten(2), ELEMENTS[elements]) + 0.5).relu()

        return lambda x: (sums(x) * weights).sum((1, 2))

    assert_same_maps(network(given), network(lambda h, at: h[..., at].sum(-1)), image)


def test_nodes_in_another_order_keep_their_places():
    order = torch.tensor([3, 0, 5, 1, 4, 2, 7, 6])
    links = torch.eye(8).double()
    for one, other in ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6)):
        links[one, other] = links[other, one] = 1
    nodes, weights = randn(1, 8, 3, seed=61), randn(8, 1, seed=62)
    back = order.argsort()

    def network(add):
        return lambda x: ((add(x) + 0.5).tanh() * weights).sum((1, 2))

    plain = network(lambda x: (links[back][:, back] @ x)[:, order])
    assert_same_maps(network(lambda x: links @ x[:, order]), plain, nodes, channel_dim=-1)
