"""The reference measured: against completeness, and against sums done by hand."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.networks import FAMILIES, TINY_NETWORKS, TinyNetwork, each_network
from tests.reference import (
    Contribution,
    Decomposition,
    decompose,
    phi,
    tgrad,
    tgrad_attribution,
    tgrad_map,
)

each_twin = pytest.mark.parametrize(
    "tiny",
    [tiny for tiny in TINY_NETWORKS.values() if tiny.functional],
    ids=lambda tiny: tiny.id,
)


@pytest.fixture(scope="module")
def decomposed():
    """Decomposes each network of the zoo once for all tests."""
    results: dict[str, Decomposition] = {}

    def get(tiny: TinyNetwork) -> Decomposition:
        if tiny.id not in results:
            results[tiny.id] = decompose(tiny.build(), tiny.inputs, tiny.target)
        return results[tiny.id]

    return get


def double(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def selected(output: Tensor, target) -> Tensor:
    """The target's output of every sample, shape (N,)."""
    if target is None:
        return output.flatten()
    return output[torch.arange(len(output)), target]


# --------------------------------------------------------------------------- the zoo


def test_ids_are_unique():
    assert len(TINY_NETWORKS) == sum(len(family.NETWORKS) for family in FAMILIES)


@each_network
def test_scores_add_up_to_the_output_of_the_network(tiny, decomposed):
    decomposition = decomposed(tiny)
    output = selected(tiny.build()(*tiny.inputs), tiny.target).detach()
    total = sum(term.score for term in decomposition.terms)
    assert_close(decomposition.output, output, rtol=1e-12, atol=0)
    assert_close(total, output, rtol=1e-12, atol=0)


@each_twin
def test_twin_computes_the_same_output_and_gradient(tiny):
    network = tiny.build()
    twin = tiny.functional(network)
    results = []
    for module in (network, twin):
        inputs = tuple(x.requires_grad_() for x in tiny.inputs)
        output = selected(module(*inputs), tiny.target)
        results.append((output, *torch.autograd.grad(output.sum(), inputs)))
    assert_close(results[1], results[0], rtol=1e-11, atol=1e-13)


@each_twin
def test_twin_shares_the_parameters(tiny):
    network = tiny.build()
    twin = tiny.functional(network)
    shared = {id(parameter) for parameter in twin.parameters()}
    assert shared == {id(parameter) for parameter in network.parameters()}


@each_network
def test_weights_and_inputs_are_reproducible(tiny):
    torch.manual_seed(0)
    first, inputs = tiny.build(), tiny.inputs
    torch.manual_seed(1)
    second, again = tiny.build(), tiny.inputs
    assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert_close(inputs, again, rtol=0, atol=0)


@each_network
@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_map_sums_to_the_scores_that_reach_the_input(tiny, sign, decomposed):
    decomposition, direction = decomposed(tiny), 1 if sign == "positive" else -1
    for index, term in enumerate(decomposition.inputs):
        scores = [t.score / sum(t.reaches) for t in decomposition.terms if t.reaches[index]]
        expected = sum(torch.relu(direction * score) for score in scores)
        maps = tgrad_map(decomposition, sign, index)
        attribution = tgrad_attribution(decomposition, sign, index)
        assert maps.shape == term.positive.shape
        assert attribution.shape == tiny.inputs[index].shape
        assert_close(maps.flatten(1).sum(1), expected, rtol=1e-12, atol=1e-12)
        assert_close(attribution.sum(1, keepdim=True), maps, rtol=1e-12, atol=1e-13)
        assert attribution.min() >= 0


@each_network
def test_maps_differ_by_the_signed_score(tiny, decomposed):
    for term in decomposed(tiny).terms:
        difference = (term.positive - term.negative).flatten(1).sum(1)
        assert_close(difference, term.score, rtol=1e-11, atol=1e-13)


@each_network
def test_user_objects_are_left_alone(tiny):
    network = tiny.build()
    inputs = tiny.inputs
    state = copy.deepcopy(network.state_dict())
    decompose(network, inputs, tiny.target)
    assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert_close(inputs, tiny.inputs, rtol=0, atol=0)
    assert not any(x.requires_grad for x in inputs)
    assert all(parameter.requires_grad for parameter in network.parameters())
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("name", ["relu6", "hardtanh", "hardsigmoid", "hardswish"])
def test_some_units_saturate_and_some_do_not(name, decomposed):
    bias = {term.name: term.values for term in decomposed(TINY_NETWORKS[name]).biases}
    for call in ("first", "second"):
        zero = bias[call].abs() < 1e-14
        assert 0 < zero.sum() < zero.numel(), call


# ------------------------------------------------------- terms known without computing


@pytest.mark.parametrize(
    "name", ["relu", "leaky_relu", "prelu", "rrelu", "max_pooling", "zero_padding"]
)
def test_homogeneous_operations_add_nothing(name, decomposed):
    names = {term.name for term in decomposed(TINY_NETWORKS[name]).nonzero_biases}
    assert names <= {"conv", "conv1", "conv2", "head.2"}
    assert "head.2" in names


def test_a_second_call_has_its_own_term(decomposed):
    names = [term.name for term in decomposed(TINY_NETWORKS["called_twice"]).biases]
    expected = ["stem", "shared", "relu", "shared#2", "relu#2"]
    assert names == [*expected, "head.0", "head.1", "head.2"]


def test_a_term_keeps_the_shape_of_the_output_of_its_operation(decomposed):
    terms = {term.name: term for term in decomposed(TINY_NETWORKS["vgg_like"]).biases}
    assert terms["conv2"].values.shape == (2, 5, 3, 2)
    assert terms["conv2"].positive.shape == (2, 1, 3, 2)
    assert terms["linear1"].values.shape == (2, 6)
    assert terms["linear1"].negative.shape == (2, 1)


def test_an_unused_branch_contributes_nothing(decomposed):
    terms = {term.name: term for term in decomposed(TINY_NETWORKS["unused_branch"]).biases}
    assert terms["auxiliary"].values.abs().max() == 0


def test_a_branch_without_the_input_is_a_constant(decomposed):
    names = {term.name for term in decomposed(TINY_NETWORKS["constant_branch"]).nonzero_biases}
    assert names == {"conv", "add", "head.2"}


def test_batch_norm_adds_what_its_formula_says(decomposed):
    tiny = TINY_NETWORKS["batch_norm"]
    network = tiny.build()
    norm = network.operation
    x = network.conv(*tiny.inputs)
    y = norm(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network.head(network.relu(y))[:, tiny.target].sum(), y)
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = (norm.bias - norm.running_mean * scale).reshape(1, -1, 1, 1)
    terms = {term.name: term for term in decomposed(tiny).biases}
    assert_close(terms["operation"].values, gradient * bias.detach())


def test_a_product_subtracts_its_output(decomposed):
    tiny = TINY_NETWORKS["squeeze_excitation"]
    network = tiny.build()
    terms = {term.name: term for term in decomposed(tiny).biases}
    # After the product the network is affine: its output is <df/dy, y> + the last bias.
    bias = network.head[2].bias[tiny.target].detach()
    expected = bias - decomposed(tiny).output
    assert_close(terms["multiply"].score, expected, rtol=1e-12, atol=0)


def test_in_place_changes_nothing():
    tiny = TINY_NETWORKS["vgg_like"]
    network = tiny.build()
    in_place = decompose(network, tiny.inputs, tiny.target)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    expected = decompose(network, tiny.inputs, tiny.target)
    for term, same in zip(in_place.terms, expected.terms, strict=True):
        assert_close(term.values, same.values, rtol=0, atol=0)


def test_a_bias_is_added_to_the_inputs_that_reach_it(decomposed):
    terms = {term.name: term for term in decomposed(TINY_NETWORKS["image_and_table"]).biases}
    assert terms["conv"].reaches == (True, False)
    assert terms["linear1"].reaches == (False, True)
    assert terms["linear2"].reaches == (True, True)
    gated = {t.name: t for t in decomposed(TINY_NETWORKS["image_gated_by_table"]).biases}
    assert gated["conv"].reaches == (True, False)
    assert gated["sigmoid"].reaches == (False, True)
    assert gated["multiply"].reaches == (True, True)


def test_targets_of_every_kind():
    tiny = TINY_NETWORKS["multilayer_perceptron"]
    network, inputs = tiny.build(), tiny.inputs
    expected = network(*inputs)[[0, 1, 2], [0, 2, 1]].detach()
    for target in ([0, 2, 1], torch.tensor([0, 2, 1]), [(0,), (2,), (1,)]):
        assert_close(decompose(network, inputs, target).output, expected)
    same = network(*inputs)[:, 2].detach()
    for target in (2, (2,)):
        assert_close(decompose(network, inputs, target).output, same)
    with pytest.raises(ValueError, match="leaves 3 outputs"):
        decompose(network, inputs)


# --------------------------------------------------------------------------- phi


def test_phi_interpolates_between_the_centers_of_the_places():
    # The four new centers lie at -1/4, 1/4, 3/4 and 5/4 of the way from the first old
    # center to the second; outside them the map goes on flat: 2, 2.5, 3.5, 4, sum 12.
    enlarged = phi(double(2.0, 4.0).reshape(1, 1, 2), (4,))
    assert_close(enlarged, double(2.0, 2.5, 3.5, 4.0).reshape(1, 1, 4) / 12)


def test_phi_divides_every_sample_by_its_own_sum_and_leaves_zero_zero():
    maps = double([1.0, 3.0], [0.0, 0.0], [10.0, 10.0]).reshape(3, 1, 1, 2)
    expected = double([0.25, 0.75], [0.0, 0.0], [0.5, 0.5]).reshape(3, 1, 1, 2)
    assert_close(phi(maps, (1, 2)), expected)


def test_phi_spreads_what_has_no_place_evenly():
    even = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64)
    without_place = double([5.0])
    sequence = double([1.0, 2.0]).reshape(1, 1, 2)
    assert_close(phi(without_place, (2, 2)), even)
    assert_close(phi(sequence, (2, 2)), even)
    assert_close(phi(sequence, ()), double([1.0]))


# ------------------------------------------------------------------------ by hand


def test_two_features_by_hand():
    """The paper's f(x1, x2) = -2 x1 + 9 x2: a zero feature gets nothing."""
    linear = nn.Linear(2, 1, bias=False)
    linear.weight = nn.Parameter(torch.tensor([[-2.0, 9.0]]))
    network = nn.Sequential(linear)
    #  x        x * df/dx   score   positive      negative
    #  3,  0      -6,  0     -6     0,  0         6, 0
    # -1,  0       2,  0      2     2,  0         0, 0
    #  1,  2      -2, 18     16     0, 18 -> 16   0, 0  (the score is not negative)
    #  3,  0.5    -6,  4.5   -1.5   0,  0         6, 0 -> 1.5
    inputs = double([3.0, 0.0], [-1.0, 0.0], [1.0, 2.0], [3.0, 0.5])
    positive = double([0.0, 0.0], [2.0, 0.0], [0.0, 16.0], [0.0, 0.0])
    negative = double([6.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.5, 0.0])

    decomposition = decompose(network, inputs, target=0)

    assert_close(decomposition.output, double(-6.0, 2.0, 16.0, -1.5))
    assert_close(decomposition.inputs[0].score, decomposition.output)
    assert_close(tgrad(network, inputs, 0), positive)
    assert_close(tgrad(network, inputs, 0, "negative"), negative)
    assert_close(tgrad(network, inputs, 0, "all"), positive - negative)


def test_a_bias_is_shared_by_the_features():
    linear = nn.Linear(2, 1)
    linear.weight = nn.Parameter(torch.tensor([[1.0, -1.0]]))
    linear.bias = nn.Parameter(torch.tensor([4.0]))
    # f = x1 - x2 + 4 at (3, 1). The input's evidence 3, 0 is scaled to its score,
    # 3 - 1 = 2; the bias gives half of its 4 to each feature.
    attribution = tgrad(nn.Sequential(linear), double([3.0, 1.0]), 0)
    assert_close(attribution, double([4.0, 2.0]))


def two_layer_network() -> nn.Module:
    """Four places in two channels, pooled to two places in one channel, classified."""
    conv1, conv2, linear = nn.Conv1d(1, 2, 1), nn.Conv1d(2, 1, 1), nn.Linear(2, 1)
    weights = {
        conv1.weight: [1.0, -2.0],
        conv1.bias: [1.0, 1.0],
        conv2.weight: [1.0, -1.0],
        conv2.bias: [2.0],
        linear.weight: [1.0, 0.5],
        linear.bias: [-2.0],
    }
    with torch.no_grad():
        for parameter, values in weights.items():
            parameter.copy_(torch.tensor(values).reshape(parameter.shape))
    return nn.Sequential(conv1, nn.ReLU(), nn.AvgPool1d(2), conv2, nn.ReLU(), nn.Flatten(), linear)


def test_two_layers_by_hand():
    """x = (3, 0, -2, 2).

    Forward:
        conv1    x + 1      =  4, 1, -1,  3      1 - 2x  = -5, 1, 5, -3
        relu                   4, 1,  0,  3                 0, 1, 5,  0
        pooled                 2.5,   1.5                   0.5,  2.5
        conv2    first - second + 2 = 2.5 - 0.5 + 2, 1.5 - 2.5 + 2 = 4, 1
        relu     4, 1
        linear   1 * 4 + 0.5 * 1 - 2 = 2.5
    Backward, df/d(...):
        conv2    1, 0.5
        pooled   1, 0.5 and -1, -0.5
        relu     0.5, 0.5, 0.25, 0.25 and the same negated
        conv1    0.5, 0.5, 0, 0.25 and 0, -0.5, -0.25, 0
        x        the first - 2 times the second = 0.5, 1.5, 0.5, 0.25
    Terms:
        input    1.5, 0, -1, 0.5                              score  1
        conv1    0.5, 0.5, 0, 0.25 and 0, -0.5, -0.25, 0      score  0.5
        conv2    2, 1                                         score  3
        linear   -2                                           score -2
        1 + 0.5 + 3 - 2 = 2.5
    Maps that count (the score is positive), enlarged, made to sum to the score:
        input    1.5, 0, 0, 0.5       sum 2     ->  0.75, 0, 0, 0.25
        conv1    0.5, 0.5, 0, 0.25    sum 1.25  ->  0.2, 0.2, 0, 0.1
        conv2    2, 1.75, 1.25, 1     sum 6     ->  1, 0.875, 0.625, 0.5
        T-Grad                                      1.95, 1.075, 0.625, 0.85
    Evidence against: the linear layer's 2, with no place: 0.5 everywhere.
    """
    network = two_layer_network()
    x = double(3.0, 0.0, -2.0, 2.0).reshape(1, 1, 4)

    decomposition = decompose(network, x, target=0)

    assert_close(decomposition.output, double(2.5))
    (input_term,) = decomposition.inputs
    terms = {term.name: term for term in decomposition.biases}
    nonzero = [term.name for term in decomposition.nonzero_biases]
    assert list(terms) == ["0", "1", "2", "3", "4", "5", "6"]
    assert nonzero == ["0", "3", "6"]

    assert_close(input_term.values, double([[1.5, 0.0, -1.0, 0.5]]))
    conv1 = double([[0.5, 0.5, 0.0, 0.25], [0.0, -0.5, -0.25, 0.0]])
    assert_close(terms["0"].values, conv1)
    assert_close(terms["0"].positive, double([[0.5, 0.5, 0.0, 0.25]]))
    assert_close(terms["0"].negative, double([[0.0, 0.5, 0.25, 0.0]]))
    assert_close(terms["3"].values, double([[2.0, 1.0]]))
    assert_close(terms["6"].values, double([-2.0]))
    scores = [float(t.score) for t in (input_term, terms["0"], terms["3"], terms["6"])]
    assert scores == pytest.approx([1.0, 0.5, 3.0, -2.0], abs=1e-14)

    positive = double([[1.95, 1.075, 0.625, 0.85]])
    negative = double([[0.5, 0.5, 0.5, 0.5]])
    assert_close(tgrad(network, x, 0), positive)
    assert_close(tgrad(network, x, 0, "negative"), negative)
    assert_close(tgrad(network, x, 0, "all"), positive - negative)


def test_channels_keep_their_input_term_and_share_the_biases():
    """Two channels of two places; terms made up, so that the sums stay easy."""
    input_term = Contribution("input", (double([[4.0, 0.0], [-1.0, 1.0]]),), (True,))
    bias = Contribution("conv", (double([[3.0, 1.0]]),), (True,))
    decomposition = Decomposition(double(8.0), (input_term,), (bias,))
    # The input: 4, 0 and 0, 1 of sum 5 scaled to the score 4: 3.2, 0 and 0, 0.8.
    # The bias: 3, 1 of sum 4 has the score 4 already; half of it to each channel.
    expected = double([[3.2 + 1.5, 0.5], [1.5, 0.8 + 0.5]])
    assert_close(tgrad_attribution(decomposition), expected)
    assert_close(tgrad_map(decomposition), double([[3.2 + 3.0, 0.8 + 1.0]]))


def test_each_input_gets_its_own_term_and_its_share_of_a_bias():
    """An image of two places and a table of two features; terms made up."""
    image = Contribution("input#1", (double([[1.0, 3.0]]),), (True, False))
    table = Contribution("input#2", (double([5.0, -1.0]),), (False, True))
    conv = Contribution("conv", (double([[2.0, 0.0]]),), (True, False))
    linear = Contribution("linear", (double([6.0]),), (True, True))
    decomposition = Decomposition(double(16.0), (image, table), (conv, linear))
    # Both share the linear's 6: 3 for each.
    # The image: 1, 3 + the conv's 2, 0 + half of 3 at each place.
    # The table: 5, 0 scaled to the score 4 + half of 3 for each feature, not the conv.
    first = tgrad_attribution(decomposition, input_index=0)
    second = tgrad_attribution(decomposition, input_index=1)
    assert_close(first, double([[1.0 + 2.0 + 1.5, 3.0 + 1.5]]))
    assert_close(second, double([4.0 + 1.5, 1.5]))
