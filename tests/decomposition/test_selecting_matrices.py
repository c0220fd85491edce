"""Constant matrices that select what they mix: permutations, crops, pruned and sparse ones."""

import itertools
import warnings
from functools import partial
from unittest.mock import Mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.places import propagation
from captum_tgrad.decomposition.places.rules import indexing
from tests.decomposition.checks import assert_as_alone, assert_complete, assert_same_maps, randn

SIZE = 6
GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(2, 3, SIZE, SIZE, generator=GENERATOR).double()
ORDER = torch.tensor([2, 0, 1, 5, 3, 4])
SHUFFLE = torch.eye(SIZE).double()[ORDER]
DENSE, OTHER = (torch.rand(SIZE, SIZE, generator=GENERATOR).double() + 0.1 for _ in range(2))
WEIGHTS = torch.rand(SIZE, SIZE, generator=GENERATOR).double()
BATCHED = DENSE.expand(6, -1, -1)


def _network(mix):
    return lambda x: (torch.relu(mix(x) + 1) * WEIGHTS).sum((1, 2, 3))


def _map(mix, x=X):
    return TGradAttribution(_network(mix)).attribute(x).sum(1)


BATCH_SIZES = itertools.count(len(X) + 1)


def _batch():
    """``X`` and further samples: of a shape that nothing was remembered for."""
    return torch.cat([X, X[:1].expand(next(BATCH_SIZES) - len(X), -1, -1, -1)])


FORMS = {
    "matmul": lambda m: lambda x: m @ x,
    "einsum": lambda m: lambda x: torch.einsum("nchw,kh->nckw", x, m),
    "two_in_one_einsum": lambda m: lambda x: torch.einsum("nchw,kh,vw->nckv", x, m, SHUFFLE),
    "dense_in_one_einsum": lambda m: lambda x: torch.einsum("nchw,kh,vw->nckv", x, m, OTHER),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_was_explained_before_changes_nothing(form):
    dense, shuffled = (_map(form(matrix), _batch())[:2] for matrix in (DENSE, SHUFFLE))
    assert not torch.allclose(dense, shuffled)
    for first, second, expected in ((SHUFFLE, DENSE, dense), (DENSE, SHUFFLE, shuffled)):
        batch = _batch()
        _map(form(first), batch)
        torch.testing.assert_close(_map(form(second), batch)[:2], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr"])
def test_a_sparse_matrix_is_the_dense_one(layout):
    def network(matrix):
        return lambda x: (torch.relu(matrix @ x[0] + 1).sum(1) * WEIGHTS[0]).sum()[None]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of a layout that is in beta
        forms = network(getattr(SHUFFLE, layout)()), network(SHUFFLE)
        TGradAttribution(network(DENSE)).attribute(randn(1, SIZE, 3), channel_dim=-1)
        assert_same_maps(*forms, randn(1, SIZE, 3), channel_dim=-1)


def test_an_accidental_zero_does_not_hide_that_channels_are_places():
    linear = nn.Linear(6, 6).double()
    tokens = torch.rand(2, 7, 6).double()

    def network(x):
        return (torch.relu(linear(x)) * torch.arange(1.0, 43).view(7, 6)).sum((1, 2))

    for _ in range(2):
        with pytest.warns(UserWarning, match="pass channel_dim=2"):
            TGradAttribution(network).decompose(tokens)
        linear.weight.data[2, 3] = 0


@pytest.mark.parametrize("column", [0, 2, SIZE - 1])
def test_an_accidental_zero_is_no_place(column):
    zero, tiny = DENSE.clone(), DENSE.clone()
    zero[1, column], tiny[1, column] = 0, 1e-13
    for mix in (lambda m: lambda x: m @ x, lambda m: lambda x: x + m @ x.relu()):
        found, expected = (TGradAttribution(_network(mix(m))).decompose(X) for m in (zero, tiny))
        torch.testing.assert_close(found.map(), expected.map(), rtol=0, atol=1e-9)
        for one, other in zip(found, expected, strict=True):
            assert one.resolution == other.resolution
            torch.testing.assert_close(one.positive, other.positive, rtol=0, atol=1e-9)


def test_nothing_that_is_joined_has_places():
    def network(x):
        hidden = torch.cat([torch.linalg.svdvals(x.flatten(1)[:, :9].view(1, 3, 3))] * 2, 1)
        return torch.cat([hidden, hidden * 2], 1).sum(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = TGradAttribution(network).decompose(X[:1])
    assert_complete(whole)


def test_a_banded_matrix_is_its_convolution():
    band = sum(torch.diag(torch.full((SIZE - abs(k),), 1.0), k) for k in (-1, 0, 1)).double()
    kernel = torch.ones(3, 1, 3, 1).double()
    forms = [lambda x: band @ x, lambda x: F.conv2d(x, kernel, padding=(1, 0), groups=3)]
    assert_same_maps(*map(_network, forms), X)
    terms = [TGradAttribution(_network(mix)).decompose(X)["add"].positive for mix in forms]
    torch.testing.assert_close(*terms, rtol=1e-10, atol=1e-12)


def test_the_nodes_of_a_graph_stay_themselves():
    links = torch.eye(8)[torch.tensor([3, 0, 6, 1, 7, 2, 5, 3])] + torch.eye(8)
    nodes = torch.rand(1, 8, 3, generator=GENERATOR).double()
    weights = torch.arange(1.0, 9).double()

    def network(x):
        return (torch.relu(links.double() @ x + 1).sum(2) * weights).sum(1)

    whole = TGradAttribution(network).decompose(nodes, channel_dim=-1)
    assert bool((whole.placed > 0.99).all())
    # The constant that is added has the weight of its node.
    torch.testing.assert_close(whole["add"].positive[0, 0], 3 * weights)


NODES = 8
LINKS = torch.eye(NODES)[torch.tensor([3, 0, 6, 1, 7, 2, 5, 3])] + torch.eye(NODES)
FAR = torch.rand(NODES, NODES, generator=GENERATOR) < 0.6  # no node stays itself
BOTH_WAYS = torch.zeros(NODES, NODES)  # from the first to all others, and from the last to two
BOTH_WAYS[0, 1:] = BOTH_WAYS[-1, 3:5] = BOTH_WAYS[1:, 0] = BOTH_WAYS[3:5, -1] = 0.5
SILENT, ISOLATED = LINKS.clone(), LINKS.clone()
SILENT[2] = ISOLATED[2] = 0  # receives nothing
ISOLATED[:, 2] = 0  # and sends nothing
GRAPHS = {
    "links": LINKS.double(),
    "far": FAR.double(),
    "dense": DENSE.repeat(2, 2)[:8, :8],
    "both ways": BOTH_WAYS.double(),
    "silent": SILENT.double(),
    "isolated": ISOLATED.double(),
}
OF_SPARSE = {
    "one at a time": lambda m, h: torch.stack([torch.sparse.mm(m, each) for each in h]),
    "nodes first": lambda m, h: (
        torch.sparse.mm(m, h.movedim(1, 0).flatten(1)).unflatten(1, (len(h), -1)).movedim(1, 0)
    ),
    "plus zero": lambda m, h: torch.stack(
        [torch.sparse.addmm(torch.zeros_like(each), m, each) for each in h]
    ),
}


def _messages(m, h, add):
    """Adds up what each node receives along its links: ``add(receivers, messages, nodes)``."""
    receivers, senders = m.nonzero(as_tuple=True)
    return add(receivers, m[receivers, senders, None] * h[:, senders], h)


def _messages_of_all_samples(m, h):
    all_nodes = h.flatten(0, 1)
    links = torch.block_diag(*[m] * len(h))
    return _messages(links, all_nodes[None], OF_MESSAGES["index_add"]).view_as(h)


OF_MESSAGES = {
    "index_add": lambda to, sent, h: torch.zeros_like(h).index_add(1, to, sent),
    "index_add_": lambda to, sent, h: torch.zeros_like(h).index_add_(1, to, sent),
    "scatter_add": lambda to, sent, h: torch.zeros_like(h).scatter_add(
        1, to[:, None].expand_as(sent), sent
    ),
    "scatter_reduce": lambda to, sent, h: torch.zeros_like(h).scatter_reduce(
        1, to[:, None].expand_as(sent), sent, "sum"
    ),
    "index_put": lambda to, sent, h: (
        torch.zeros_like(h)
        .transpose(0, 1)
        .index_put((to,), sent.transpose(0, 1), accumulate=True)
        .transpose(0, 1)
    ),
}
OF_GRAPH = {
    **{name: partial(_messages, add=add) for name, add in OF_MESSAGES.items()},
    "messages of all samples": _messages_of_all_samples,
    "batch of one": lambda m, h: m[None] @ h,
    "expanded": lambda m, h: m.expand(len(h), -1, -1) @ h,
    "repeated": lambda m, h: torch.bmm(m.repeat(len(h), 1, 1), h),
    "einsum": lambda m, h: torch.einsum("nij,njd->nid", m.expand(len(h), -1, -1), h),
    "sum of two": lambda m, h: torch.einsum("kij,njd->nid", torch.stack([m / 4, m * 3 / 4]), h),
    "all samples in one": lambda m, h: (torch.block_diag(*[m] * len(h)) @ h.flatten(0, 1)).view_as(
        h
    ),
    **{
        f"{layout}, {name}": lambda m, h, to=to, mix=mix: mix(getattr(m, to)(), h)
        for layout, to in (("sparse", "to_sparse"), ("compressed", "to_sparse_csr"))
        for name, mix in OF_SPARSE.items()
    },
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("mix", OF_GRAPH.values(), ids=OF_GRAPH)
def test_a_graph_has_one_map_however_its_links_are_written(mix, graph):
    forms = (_two_layers(partial(each, graph)) for each in (mix, torch.matmul))
    assert_same_maps(*forms, torch.rand(3, NODES, 3).double(), channel_dim=-1)


def _two_layers(mix, tokens=lambda x: x):
    def network(x):
        weights = torch.arange(1.0, tokens(x).shape[1] + 1).double()
        hidden = torch.relu(mix(tokens(x)) + 0.5)
        return (F.silu(mix(hidden)).sum(2) * weights).sum(1)

    return network


@pytest.mark.parametrize("write", ["matmul", "index_add"])
@pytest.mark.parametrize("graph", ["both ways", "silent", "isolated"])
def test_nodes_keep_their_places(graph, write):
    """Also without links to themselves, as in GraphConv, or if one of them receives nothing."""
    nodes = torch.rand(2, NODES, 3, generator=GENERATOR).double()
    weights = torch.arange(1.0, NODES + 1).double()
    links, mix = GRAPHS[graph], OF_GRAPH["batch of one" if write == "matmul" else write]

    def network(x):
        return (torch.relu(mix(links, x) + 1).sum(2) * weights).sum(1)

    whole = TGradAttribution(network).decompose(nodes, channel_dim=-1)
    torch.testing.assert_close(whole["add"].positive[0, 0], 3 * weights)


POINTS = 24
DISTANCES = torch.rand(2, POINTS, POINTS, generator=torch.Generator().manual_seed(2))
NEAREST = DISTANCES.diagonal_scatter(torch.zeros(2, POINTS), dim1=1, dim2=2).argsort(2)[..., :6]


def _means_of_gathered(h, nearest):
    index = nearest.flatten(1)[..., None].expand(-1, -1, h.shape[2])
    return h.gather(1, index).unflatten(1, nearest.shape[1:]).mean(2)


def _means_by_a_matrix(h, nearest):
    return torch.nn.functional.one_hot(nearest, POINTS).sum(2).double() @ h / nearest.shape[2]


@pytest.mark.parametrize("shape", [(24, 3), (3, 4, 6)], ids=["points", "patches"])
def test_means_of_gathered_neighbors_have_the_map_of_their_matrix(shape):
    """As of the nearest neighbors in a point cloud, or of patches in Vision GNN."""
    inputs = torch.rand(2, *shape).double()
    weights = torch.arange(1.0, POINTS + 1).double()
    options = {"channel_dim": -1 if len(shape) == 2 else 1}

    def network(x, nearest=NEAREST, means=_means_of_gathered):
        tokens = x if len(shape) == 2 else x.flatten(2).mT
        return (F.silu(means(F.silu(tokens + 0.5), nearest)).sum(2) * weights).sum(1)

    assert_same_maps(network, partial(network, means=_means_by_a_matrix), inputs, **options)
    assert_as_alone(network, inputs, NEAREST, **options)


@pytest.mark.filterwarnings("ignore:forward_func uses dimension 1")
@pytest.mark.parametrize(
    "mix",
    [
        lambda x: F.linear(x, WEIGHTS, torch.zeros(SIZE).double()),
        lambda x: torch.addmm(torch.zeros(SIZE).double(), x.flatten(0, 2), WEIGHTS).view_as(x),
        lambda x: torch.baddbmm(torch.zeros(1).double(), x.flatten(0, 1), BATCHED).view_as(x),
    ],
    ids=["linear", "addmm", "baddbmm"],
)
def test_zeros_of_a_summand_pick_nothing(mix, monkeypatch):
    """The places after a product are found once, although the constant that it adds has zeros."""
    expected = _map(mix)
    found = Mock(wraps=propagation._found)
    monkeypatch.setattr(propagation, "_found", found)
    torch.testing.assert_close(_map(mix), expected, rtol=0, atol=0)
    names = {call.args[0].name for call in found.call_args_list}
    assert not names & {"linear", "addmm", "baddbmm"}


@pytest.mark.filterwarnings("ignore:forward_func uses dimension 1")
@pytest.mark.parametrize(
    "mix",
    [
        lambda x, matrix: F.linear(x, matrix),
        lambda x, matrix: torch.einsum("nchw,kw->nchk", x, matrix),
        lambda x, matrix: torch.mm(matrix.to_sparse(), x.flatten(0, 2).T).T.view_as(x),
    ],
    ids=["linear", "einsum", "mm"],
)
def test_what_a_matrix_selects_is_found_once(mix, monkeypatch):
    """As for the weights of a sparse layer in each step of a loop."""
    found = Mock(wraps=propagation._found)
    monkeypatch.setattr(propagation, "_found", found)
    batch = _batch()
    for matrix in (SHUFFLE, SHUFFLE.flip(0)):
        for is_first in (True, False):
            found.reset_mock()
            _map(lambda x, matrix=matrix: mix(x, matrix * 1), batch)
            names = {call.args[0].name for call in found.call_args_list}
            assert bool(names & {"linear", "einsum", "mm"}) == is_first


@pytest.mark.parametrize("add", ["index_add", "scatter_add"])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_messages_of_many_channels_are_added_once(add, is_mixed, monkeypatch):
    """Their places are found from one channel; those of channels of the input stay as they are."""
    channels, weight = 50, torch.ones(50, 50).double()
    receiver = torch.tensor([0, 0, 1, 2, 2, 2])

    def network(nodes, index=receiver):
        messages = (nodes @ weight if is_mixed else nodes)[:, ORDER]
        if add == "scatter_add":
            index = index[:, None].expand(messages.shape)
        received = getattr(torch.zeros(1, 3, channels).double(), add)(1, index, messages)
        return (received + torch.arange(3.0)[:, None]).sum((1, 2))

    found = Mock(wraps=indexing.cells_of_sums)
    monkeypatch.setattr(indexing, "cells_of_sums", found)
    nodes = torch.rand(1, SIZE, channels, generator=GENERATOR).double()
    term = TGradAttribution(network).decompose(nodes, channel_dim=2).biases[-1]
    assert found.call_args_list
    assert all(call.args[1].number.numel() == SIZE for call in found.call_args_list)
    # The node 1 gets 50 from the node 1; the node 2, which gets 100, from the nodes 5, 3 and 4.
    expected = torch.tensor([[0.0, 50, 0, 100 / 3, 100 / 3, 100 / 3]]).double()
    torch.testing.assert_close(term.positive[0], expected)


def _links_of_patches(steps, size=5):
    """Each patch of a grid receives messages from itself and from the patches at these steps."""
    links = torch.zeros(size, size, size, size).double()
    for row, column in itertools.product(range(size), repeat=2):
        for down, right in [(0, 0), *steps]:
            if 0 <= row + down < size and 0 <= column + right < size:
                links[row, column, row + down, column + right] = 1 + down + 3 * right or 1
    return links.flatten(2).flatten(0, 1)


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(
    "steps",
    [
        [(0, 1), (1, 0), (0, -1), (-1, 0)],
        [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)],
        [(1, 1), (-2, 0)],
        [(4, 4)],
    ],
    ids=["4 neighbors", "8 neighbors", "asymmetric", "distant"],
)
@pytest.mark.parametrize("mix", OF_GRAPH.values(), ids=OF_GRAPH)
def test_a_graph_of_patches_has_one_map_however_its_links_are_written(mix, steps):
    links = _links_of_patches(steps)
    forms = (
        _two_layers(partial(each, links), lambda x: x.flatten(2).mT) for each in (mix, torch.matmul)
    )
    found = assert_same_maps(*forms, X[..., :5, :5])
    assert found["silu"].resolution == "5 x 5"


# A path of nodes with some shorter paths through it.
BONDS = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0, 3], [1, 2, 3, 4, 5, 6, 7, 2, 7]])


def _bonds():
    links = torch.zeros(NODES, NODES).double()
    links[BONDS[0], BONDS[1]] = links[BONDS[1], BONDS[0]] = 0.5
    return links


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("mix", OF_GRAPH.values(), ids=OF_GRAPH)
@pytest.mark.parametrize("is_grid", [False, True], ids=["path", "patches"])
def test_a_node_added_to_its_messages_has_a_link_to_itself(mix, is_grid):
    """As in GraphSAGE and GIN, whose nodes are added to the messages of their neighbors."""
    if is_grid:
        links = _links_of_patches([(0, 1), (1, 0), (0, -1), (-1, 0)])
        links, inputs, channel_dim = links - torch.eye(25).double(), X[..., :5, :5], 1
    else:
        links, inputs, channel_dim = (
            _bonds(),
            X.reshape(2, -1)[:, : NODES * 3].view(2, NODES, 3),
            -1,
        )
    weights = torch.arange(1.0, len(links) + 1).double()

    def network(mix, links):
        def forward(x):
            hidden = x.flatten(2).transpose(1, 2) if is_grid else x
            for _ in range(2):
                hidden = torch.relu(mix(links, hidden) + 0.5)
            return (F.silu(hidden).sum(2) * weights).sum(1)

        return forward

    plain = network(torch.matmul, links + torch.eye(len(links)).double())
    form = network(lambda m, h: mix(m, h) + h, links)
    found = assert_same_maps(form, plain, inputs, channel_dim=channel_dim)
    assert found["silu"].resolution == ("5 x 5" if is_grid else "8")


# Two rings of four nodes. No node has a link to itself, so that each is at its two neighbors.
RINGS = torch.block_diag(*[torch.eye(4).roll(1, 0) + torch.eye(4).roll(-1, 0)] * 2).double()
# A chain whose nodes receive from one to three others.
CHAIN = torch.zeros(NODES, NODES).double()
CHAIN[[0, 1, 1, 2, 2, 3, 4, 4, 4, 5, 6, 6, 7], [1, 2, 3, 1, 0, 2, 3, 6, 7, 4, 5, 7, 6]] = 0.5
SHARES = torch.linspace(1, 2, NODES).double()
POOLS = {
    "mean": lambda h: h.mean(1),
    "max": lambda h: h.amax(1),
    "norm": lambda h: h.norm(dim=1),
    "matmul": lambda h: SHARES[: h.shape[1]] @ h,
    "einsum": lambda h: torch.einsum("nic,i->nc", h, SHARES[: h.shape[1]]),
    "attention weights": lambda h: (h[..., :1].softmax(1).mT @ h)[:, 0],
    "index_add": lambda h: h.new_zeros(len(h), 1, 3).index_add(
        1, torch.zeros(h.shape[1]).long(), h
    )[:, 0],
    "scatter_add": lambda h: h.new_zeros(len(h), 1, 3).scatter_add(
        1, torch.zeros(h.shape).long(), h
    )[:, 0],
    "pooling": lambda h: F.avg_pool1d(h.mT, h.shape[1])[..., 0],
    "convolution": lambda h: F.conv1d(
        h.mT, SHARES[: h.shape[1]].expand(3, 1, -1), groups=3
    )[..., 0],
}  # fmt: skip


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("links", [RINGS, CHAIN], ids=["rings", "chain"])
def test_sums_over_all_nodes_are_at_all_nodes(links, hops, pool):
    """Nodes are at several others, but a sum over all nodes has no position."""
    nodes = torch.rand(2, NODES, 3).double()

    def network(x):
        for _ in range(hops):
            x = F.silu(links @ x)
        return (pool(x) + 1).sum(1)

    bias = TGradAttribution(network).decompose(nodes, channel_dim=-1)["add"]
    assert bias.score.tolist() == [3, 3]
    assert bias.placed.tolist() == [0, 0]


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_sums_over_one_of_two_graphs_are_at_its_nodes(hops, pool):
    nodes = torch.rand(2, NODES, 3).double()

    def network(x):
        for _ in range(hops):
            x = F.silu(RINGS @ x)
        return (pool(x[:, 4:]) + 1).sum(1)

    bias = TGradAttribution(network).decompose(nodes, channel_dim=-1)["add"]
    assert bias.placed.tolist() == [1, 1]
    shown = F.interpolate(bias.positive, NODES)[0, 0]
    torch.testing.assert_close(shown / shown.sum(), torch.tensor([0] * 4 + [0.25] * 4).double())


OF_SCORES = {
    "index_put": lambda at, scores, h: torch.zeros(NODES, NODES).double().index_put(at, scores) @ h,
    "index_add": lambda at, scores, h: torch.zeros_like(h).index_add(
        0, at[0], scores[:, None] * h[at[1]]
    ),
    "sparse": lambda at, scores, h: torch.sparse.mm(_sparse(at, scores), h),
    "@": lambda at, scores, h: _sparse(at, scores).coalesce() @ h,
    "dense": lambda at, scores, h: _sparse(at, scores).to_dense() @ h,
}


def _sparse(at, scores):
    return torch.sparse_coo_tensor(torch.stack(at), scores, (NODES, NODES), check_invariants=False)


@pytest.mark.parametrize("write", OF_SCORES.values(), ids=OF_SCORES)
@pytest.mark.parametrize("graph", ["links", "far", "both ways"])
def test_a_graph_with_attention_has_one_map_however_it_is_written(graph, write):
    """A sparse matrix may depend on the input, as in a graph attention network."""
    weights = torch.arange(1.0, NODES + 1).double()[:, None]
    at = GRAPHS[graph].nonzero(as_tuple=True)

    def network(x, write):
        h = x[0]
        for _ in range(2):
            h = (write(at, (h[at[0]] * h[at[1]]).sum(1).sigmoid(), h) + 0.5).tanh()
        return (h * weights).sum((0, 1), keepdim=True)[0]

    methods = (
        TGradAttribution(partial(network, write=each)) for each in (write, OF_SCORES["index_put"])
    )
    nodes = torch.rand(1, NODES, 3).double()
    torch.testing.assert_close(*(method.attribute(nodes, channel_dim=-1) for method in methods))


def test_the_softmax_of_a_sparse_matrix_is_missing_from_the_terms():
    at = GRAPHS["links"].nonzero(as_tuple=True)

    def network(x):
        scores = _sparse(at, (x[0, at[0]] * x[0, at[1]]).sum(1)).coalesce()
        return torch.sparse.mm(torch.sparse.softmax(scores, 1), x[0]).sum((0, 1), keepdim=True)[0]

    nodes = torch.rand(1, NODES, 3).double()
    with pytest.warns(UserWarning, match="softmax"):
        decomposed = TGradAttribution(network).decompose(nodes, channel_dim=-1)
    assert abs(float(decomposed.delta)) > 0.01
