"""Smooth and efficient MPRT against literal forms of them, on networks that are rebuilt."""

import copy
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from torch import nn

from captum_tgrad import TGradAttribution
from captum_tgrad.sanity_checks import efficient_mprt, smooth_mprt
from captum_tgrad.sanity_checks.mprt import Smoothed
from tests.sanity_checks.networks import images, network


class Noting:
    """A factory that keeps the weights of each network, and the inputs of each call."""

    def __init__(self, kind):
        self.kind, self.states, self.inputs = kind, [], []

    def __call__(self, model):
        noting = self

        class Method(self.kind):
            def attribute(self, inputs, *args, **kwargs):
                state = copy.deepcopy(model.state_dict())
                if not noting.states or not _equal(noting.states[-1], state):
                    noting.states.append(state)
                noting.inputs.append(inputs.detach().clone())
                return super().attribute(inputs, *args, **kwargs)

        return Method(model)


def _equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def _literal_smooth_map(state, noisy, target):
    """The mean of the maps of one network, one noisy copy at a time, summed over channels."""
    twin = network()
    twin.load_state_dict(state)
    total = np.zeros((len(noisy[0]), 12, 14))
    for inputs in noisy:
        attributions = InputXGradient(twin).attribute(inputs.clone(), target)
        total += attributions.detach().double().numpy().sum(1)
    return total / len(noisy)


@pytest.mark.parametrize(
    ("mode", "layers"), [("bottom_up", "0136"), ("cascading", "6310"), ("independent", "6310")]
)
def test_smooth_mprt_is_the_literal_one(mode, layers):
    noting, x = Noting(InputXGradient), images()
    found = smooth_mprt(network(), noting, x, [1, 3], n_samples=3, noise_level=0.2, mode=mode)
    assert found.layers == tuple(layers)
    noisy = noting.inputs[:3]
    maps = [_literal_smooth_map(state, noisy, [1, 3]) for state in noting.states]
    assert len(maps) == 5
    for sample in range(2):
        expected = [
            scipy.stats.spearmanr(np.abs(maps[0][sample]), np.abs(each[sample]), axis=None)
            for each in maps[1:]
        ]
        correlations = [each.statistic for each in expected]
        np.testing.assert_allclose(found.correlations[:, sample], correlations, atol=1e-4)
        assert found.smooth_mprt[sample] == pytest.approx(np.mean(correlations), abs=1e-4)


def test_the_noise_is_a_share_of_the_range_and_the_same_for_every_network():
    noting, x = Noting(Saliency), (images() - 0.4) * torch.tensor([1.0, 5.0]).reshape(2, 1, 1, 1)
    smooth_mprt(network(), noting, x, 1, n_samples=4, noise_level=0.1)
    assert len(noting.inputs) == 5 * 4
    for number in range(4):
        for step in range(5):
            assert torch.equal(noting.inputs[number], noting.inputs[4 * step + number])
    assert torch.equal(noting.inputs[0], x)
    for sample in range(2):
        spread = 0.1 * (x[sample].max() - x[sample].min())
        noise = torch.stack([noisy[sample] - x[sample] for noisy in noting.inputs[1:4]])
        assert noise.std().item() == pytest.approx(spread.item(), rel=0.05)


def test_maps_in_half_precision_are_averaged_in_float32():
    class Half:
        def attribute(self, inputs, target=None):
            return (inputs * 0 + torch.tensor(1 / 3)).bfloat16()

    # In bfloat16, steps of 1/1000 would be rounded away from a sum of 1/4 on.
    found = Smoothed(Half(), 1000, 0.0).attribute(images())
    expected = torch.tensor(1 / 3).bfloat16().float().expand_as(found)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_one_sample_without_noise_is_the_plain_cascade():
    from captum_tgrad.sanity_checks import cascading_randomization

    plain = list(cascading_randomization(network(), TGradAttribution, images(), mode="bottom_up"))
    found = smooth_mprt(network(), TGradAttribution, images(), n_samples=1)
    expected = torch.stack([step.spearman_absolute for step in plain[1:]])
    # A constant map has no correlation.
    torch.testing.assert_close(found.correlations, expected, equal_nan=True)
    assert not bool(expected.isnan().all())
    assert found.layers == tuple(step.layer for step in plain[1:])


@pytest.mark.parametrize("n_bins", [5, 100])
def test_efficient_mprt_is_the_literal_one(n_bins):
    noting, x = Noting(InputXGradient), images()
    found = efficient_mprt(network(), noting, x, [1, 3], n_bins=n_bins)
    assert len(noting.states) == 2
    trained = network().state_dict()
    assert _equal(noting.states[0], trained)
    random = noting.states[1]
    weights = [name for name in trained if name.endswith(("weight", "bias", "mean", "var"))]
    assert not any(torch.equal(trained[name], random[name]) for name in weights)
    maps = [_literal_smooth_map(state, [x], [1, 3]) for state in noting.states]
    entropies = np.array(
        [[scipy.stats.entropy(np.histogram(one, bins=n_bins)[0]) for one in each] for each in maps]
    )
    np.testing.assert_allclose(found.trained_entropy, entropies[0], atol=1e-6)
    np.testing.assert_allclose(found.random_entropy, entropies[1], atol=1e-6)
    expected = (entropies[1] - entropies[0]) / entropies[0]
    np.testing.assert_allclose(found.efficient_mprt, expected, atol=1e-6)


def _returning(maps):
    """A factory of methods that return one map after another, for all samples."""
    remaining = list(maps)

    class Method:
        def __init__(self, model):
            self.model = model

        def attribute(self, inputs, target=None):
            self.model(inputs)
            return remaining.pop(0)

    return Method


def test_the_entropy_of_quantus():
    quantus = pytest.importorskip("quantus")
    maps = torch.randn(2, 2, 1, 12, 14, generator=torch.Generator().manual_seed(0))
    found = efficient_mprt(network(), _returning(maps), images(), n_bins=50)
    entropy = quantus.functions.complexity_func.discrete_entropy
    for entropies, batch in ((found.trained_entropy, maps[0]), (found.random_entropy, maps[1])):
        expected = [entropy(a=one.double().numpy(), x=one.numpy(), n_bins=50) for one in batch]
        np.testing.assert_allclose(entropies, expected, rtol=1e-10)


def test_entropies_by_hand():
    two_bins = torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]], [[[2.0, 2.0, 2.0, 2.0]]]])
    four_bins = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]], [[[0.0, 1.0, 2.0, 3.0]]]])
    found = efficient_mprt(network(), _returning([two_bins, four_bins]), images(), n_bins=4)
    trained = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert found.trained_entropy.tolist() == pytest.approx([trained, 0])
    assert found.random_entropy.tolist() == pytest.approx([np.log(4)] * 2)
    assert found.efficient_mprt[0].item() == pytest.approx((np.log(4) - trained) / trained)
    assert found.efficient_mprt[1].isnan()  # a constant map has no entropy to rise from


@pytest.mark.parametrize("value", [0.1, -1e6, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_map_that_is_constant_but_for_rounding_has_no_entropy(dtype, value):
    rounded = torch.full((2, 1, 1, 4), value, dtype=dtype)
    rounded[..., 1:] *= 1 + torch.finfo(dtype).eps * torch.tensor([1, 2, -1], dtype=dtype)
    assert len(rounded.unique()) > 1
    other = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]] * 2, dtype=dtype)
    found = efficient_mprt(network(), _returning([rounded, other]), images())
    assert found.trained_entropy.tolist() == [0, 0]
    assert found.random_entropy.tolist() == pytest.approx([np.log(4)] * 2)
    assert found.efficient_mprt.isnan().all()


def test_entropies_of_maps_in_half_precision():
    maps = torch.randn(2, 2, 1, 12, 14, generator=torch.Generator().manual_seed(0)).bfloat16()
    found, expected = (
        efficient_mprt(network(), _returning(each), images(), n_bins=7)
        for each in (maps, maps.double())
    )
    assert torch.equal(found.trained_entropy, expected.trained_entropy)
    assert torch.equal(found.random_entropy, expected.random_entropy)


class _Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, x, factor):
        return self.body(x * factor)


class _Fixed:
    """A method that needs no arguments of the model and the method."""

    def __init__(self, model):
        self.model = model

    def attribute(self, inputs, target=None, additional_forward_args=None, abs=True):
        return Saliency(lambda x: self.model(x, 2.0)).attribute(inputs, target, abs=False)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (partial(smooth_mprt, n_samples=2), "correlations"),
        (efficient_mprt, "random_entropy"),
    ],
)
def test_arguments_of_the_model_and_the_method_are_passed_on(function, result):
    def run(model=_Scaled, method=Saliency, further=2.0, absolute=False, seed=0):
        options = {"attribute_kwargs": {"abs": absolute}, "additional_forward_args": further}
        return getattr(function(model(), method, images(), 1, seed=seed, **options), result)

    found = run()
    assert torch.equal(found, run(method=_Fixed))
    for change in ({"further": 3.0}, {"absolute": True}, {"seed": 1}):
        assert not torch.allclose(found, run(**change), equal_nan=True), change


def test_no_noise_is_a_plain_mean():
    one, other = (
        smooth_mprt(network(), Saliency, images(), 1, n_samples=n, noise_level=0) for n in (1, 3)
    )
    torch.testing.assert_close(one.correlations, other.correlations, atol=1e-3, rtol=0)


def test_results_are_on_the_cpu_with_any_default_device():
    model, x = network(), images()
    with torch.device("meta"):
        smooth = smooth_mprt(model, Saliency, x, 1, n_samples=2)
        efficient = efficient_mprt(model, Saliency, x, 1)
    for tensor in (smooth.smooth_mprt, efficient.efficient_mprt):
        assert tensor.device.type == "cpu"


def test_nothing_of_the_users_changes():
    model, x = network(), images()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    smooth_mprt(model, Saliency, x, 1, n_samples=2)
    efficient_mprt(model, Saliency, x, 1)
    assert _equal(before, model.state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, images())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("function", "changes", "error", "message"),
    [
        (smooth_mprt, {"n_samples": 0}, ValueError, "n_samples must be a positive integer"),
        (smooth_mprt, {"n_samples": 2.0}, TypeError, "n_samples must be a positive integer"),
        (smooth_mprt, {"noise_level": -0.1}, ValueError, "noise_level must be 0 or more"),
        (smooth_mprt, {"noise_level": float("inf")}, ValueError, "noise_level must be 0 or more"),
        (smooth_mprt, {"noise_level": "a"}, TypeError, "noise_level must be a number, got str"),
        (smooth_mprt, {"mode": "top_down"}, ValueError, "mode must be 'cascading', 'bottom_up'"),
        (smooth_mprt, {"layers": ["head"]}, ValueError, "layers contains 'head'"),
        (efficient_mprt, {"n_bins": 1}, ValueError, "n_bins must be 2 or more"),
        (efficient_mprt, {"inputs": images().numpy()}, TypeError, "inputs must be a torch.Tensor"),
    ],
)
def test_bad_input(function, changes, error, message):
    arguments = {"inputs": images(), "target": 1, **changes}
    with pytest.raises(error, match=message):
        function(network(), Saliency, **arguments)


def test_a_method_that_returns_more_than_maps():
    with pytest.raises(TypeError, match="Leave options such as return_convergence_delta out"):
        smooth_mprt(
            network(),
            IntegratedGradients,
            images(),
            1,
            attribute_kwargs={"return_convergence_delta": True},
        )


def test_a_map_that_is_not_finite_has_no_entropy():
    class Returning(Saliency):
        def attribute(self, inputs, target=None):
            self.forward_func(inputs)
            maps = torch.arange(4.0).reshape(1, 1, 2, 2).repeat(2, 1, 1, 1)
            maps[0, 0, 0, 0] = torch.nan
            return maps

    found = efficient_mprt(network(), Returning, images(), 1)
    assert found.trained_entropy.tolist() == pytest.approx([np.nan, np.log(4)], nan_ok=True)
    assert found.efficient_mprt.isnan().tolist() == [True, False]
