"""A later call on a network whose graph has not changed gives what a recorded call gives."""

import copy
import pickle
import warnings
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.hooks import RemovableHandle

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition import pending_terms
from captum_tgrad.decomposition.decompose import decompose
from captum_tgrad.decomposition.places.places import input_places
from captum_tgrad.decomposition.replay.replay import Replay, are_small
from tests.decomposition.checks import assert_as_recorded, assert_close_to_recorded, assert_equal
from tests.networks import replayed
from tests.networks.replayed import Gated, Moved, Parts, Residual, Tokens, Volume, images, ready

NETWORKS = [
    Tokens, Gated, Parts, Moved, replayed.Units, replayed.Smooth, replayed.Raw, Volume,
    replayed.Normalized, lambda: replayed.Resized(1), lambda: replayed.Resized(3),
]  # fmt: skip


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_replay_gives_the_same_without_recording(dtype, memory_format, recorded):
    method = TGradAttribution(ready(Residual()).to(dtype, memory_format=memory_format))
    method.attribute(images().to(dtype, memory_format=memory_format), target=0)
    assert len(recorded) == 1
    for seed in (2, 3):
        x = images(seed=seed).to(dtype, memory_format=memory_format)
        found = method.decompose(x, target=seed - 1)
        assert len(recorded) == seed - 1  # not recorded
        assert_equal(found, TGradAttribution(method.forward_func).decompose(x, target=seed - 1))


@pytest.mark.parametrize("network", [Residual, Gated, Tokens])
def test_terms_that_wait_are_the_same(network, recorded, monkeypatch):
    method, x = TGradAttribution(ready(network())), images()
    method.decompose(x, target=0)
    found = []
    for most in (0, 500, 2**18):  # none waits, they are reduced in several groups, or in one
        monkeypatch.setattr(pending_terms, "_MOST_WAITING", most)
        found.append(method.decompose(x, target=0))
    assert len(recorded) == 1
    assert_equal(found[1], found[0])
    assert_equal(found[2], found[0])


@pytest.mark.parametrize("network", [Residual, replayed.Smooth])
def test_a_replay_in_inference_mode_is_the_same(network, recorded):
    method = TGradAttribution(ready(network()))
    for _ in range(2):
        expected = method.decompose(images(), target=0)
    with torch.inference_mode():
        found = method.decompose(images(), target=0)
    assert len(recorded) == 1
    assert_equal(found, expected)


@pytest.mark.parametrize(
    "network",
    [
        Residual(),
        Residual().requires_grad_(False),
        nn.Sequential(nn.Conv2d(3, 1, 9), nn.Hardtanh(), nn.Flatten()),
    ],
    ids=["trainable", "frozen", "negative limit"],
)
def test_the_network_runs_once_in_each_call(network):
    network, runs = ready(network), []
    network.register_forward_pre_hook(lambda *arguments: runs.append(1))
    method = TGradAttribution(network)
    for number in (1, 2, 3):
        method.attribute(images(), target=0)
        assert len(runs) == number


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_norms_and_smooth_activations_are_replayed(network, count, dtype, recorded):
    method = TGradAttribution(ready(network()).to(dtype))
    for seed in range(3):
        x = images(count, 3, 9, 9, seed=seed).to(dtype)
        before = len(recorded)
        method.decompose(x, target=0)
        assert len(recorded) == before + (seed == 0)
        assert_close_to_recorded(method, x, target=seed)


@pytest.mark.parametrize("network", [Residual, Gated, Parts, Moved, Volume])
@pytest.mark.parametrize("inside", [True, False])
def test_networks_under_autocast_are_replayed(network, inside, recorded):
    network = ready(network())

    def under_autocast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    method = TGradAttribution(under_autocast if inside else network)
    with nullcontext() if inside else torch.autocast("cpu", torch.bfloat16):
        for seed in range(3):
            method.decompose(images(seed=seed), target=0)
        assert len(recorded) == 1
        assert_close_to_recorded(method, images(), tolerance=0.05, target=1)


@pytest.mark.parametrize("token", [(8,), (1, 8), (1, 1, 8), (1, 2, 8)], ids=str)
def test_two_class_tokens(token):
    method = TGradAttribution(ready(Tokens(token, 2)).double())
    for _ in range(3):
        assert_close_to_recorded(method, images().double(), target=0)


def test_other_shapes_and_channel_dimensions_are_recorded():
    method = TGradAttribution(ready(Residual()))
    for x in (images(), images(1, 3, 9, 9), images(2, 3, 12, 9), images()):
        assert_as_recorded(method, x, target=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels that are used as positions
        assert_as_recorded(method, images(), target=1, channel_dim=2)


def test_the_last_eight_shapes_are_replayed(recorded):
    method = TGradAttribution(ready(Residual()))
    shapes = [(1, 3, 12, 6 + each) for each in range(8)]
    for shape in (*shapes, *reversed(shapes)):
        _ = method.attribute(images(*shape), target=1)
    assert len(recorded) == 8
    _ = method.attribute(images(1, 3, 12, 20), target=1)
    _ = method.attribute(images(*shapes[0]), target=1)  # the oldest one
    assert len(recorded) == 10


@pytest.mark.parametrize(
    "frozen",
    [lambda net: net.requires_grad_(False), lambda net: net.stem.bias.requires_grad_(False)],
    ids=["all", "a bias"],
)
def test_a_frozen_network_is_replayed_and_stays_frozen(frozen, recorded):
    network = ready(Residual())
    frozen(network)
    before = [parameter.requires_grad for parameter in network.parameters()]
    method = TGradAttribution(network)
    expected = method.decompose(images(), target=0)
    assert_equal(method.decompose(images(), target=0), expected)
    assert len(recorded) == 1
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert all(parameter.grad is None for parameter in network.parameters())
    network.head.register_forward_hook(_fail)
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(images(), target=0)
    assert [parameter.requires_grad for parameter in network.parameters()] == before


def _fail(*arguments):
    raise RuntimeError("of the network")


@pytest.mark.parametrize("of_module", [True, False])
def test_a_batch_norm_in_training_mode_keeps_its_statistics(of_module):
    network = ready(Residual())
    method = TGradAttribution(network if of_module else lambda x: network(x))
    method.attribute(images(), target=0)
    network.main[1].train()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=r"batch norm .* is in training mode"):
        method.attribute(images(), target=0)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    network.eval()
    assert_as_recorded(method, images(), target=0)


class Hidden(nn.Module):
    """Its modules are in a plain list."""

    def __init__(self):
        super().__init__()
        self.layers = [ready(nn.Conv2d(3, 4, 3)), ready(nn.BatchNorm2d(4))]
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("is_another", [True, False], ids=["another network", "in a list"])
def test_a_batch_norm_in_training_mode_that_a_later_call_runs_first(is_another):
    networks = [ready(Hidden())]
    method = TGradAttribution((lambda x: networks[-1](x)) if is_another else networks[0])
    for _ in range(2):
        method.attribute(images(), target=0)
    if is_another:
        networks.append(copy.deepcopy(networks[0]))
    norm = networks[-1].layers[1].train()
    before = copy.deepcopy(norm.state_dict())
    with pytest.raises(ValueError, match=r"batch norm .* is in training mode"):
        method.attribute(images(), target=0)
    for name, tensor in norm.state_dict().items():
        assert torch.equal(tensor, before[name])
    norm.eval()
    assert_as_recorded(method, images(), target=0)


def test_functions_are_replayed(recorded):
    network = ready(Residual()).requires_grad_(False)
    for function, target in (
        (lambda x: network(x), 2),
        (lambda x: network(x)[:, 1] - network(x)[:, 0], None),
        (network.forward, 2),
    ):
        method = TGradAttribution(function)
        recorded.clear()
        for seed in (1, 2):
            found = method.decompose(images(seed=seed), target=target)
        assert len(recorded) == 1
        assert_equal(found, TGradAttribution(function).decompose(images(seed=2), target=target))


def test_an_error_of_the_network_is_raised_and_forgotten():
    class Failing(Residual):
        fails = False

        def forward(self, x):
            if self.fails:
                raise RuntimeError("of the network")
            return super().forward(x)

    network = ready(Failing())
    method = TGradAttribution(network)
    method.attribute(images(), target=0)
    network.fails = True
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(images(), target=0)
    network.fails = False
    assert_as_recorded(method, images(), target=0)


def test_an_error_that_the_network_raises_once_is_raised():
    network, runs = ready(Residual()), []

    def fail_once(module, inputs):
        runs.append(1)
        if len(runs) == 2:
            raise RuntimeError("of the network")

    network.register_forward_pre_hook(fail_once)
    method = TGradAttribution(network)
    method.attribute(images(), target=0)
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(images(), target=0)
    assert len(runs) == 2


class Drawing(Residual):
    """Draws random numbers, which it does not use."""

    draws = False

    def forward(self, x):
        if self.draws:
            torch.rand(3)
        return super().forward(x)


def _out_of_memory_at(call):
    """A function for ``decompose`` that fails in the given call."""
    calls = []

    def gradients(forward, leaves):
        output = forward(*leaves).sum()
        calls.append(1)
        if len(calls) == call:
            raise torch.OutOfMemoryError
        return torch.autograd.grad(output, leaves)

    return gradients


def _run(network, gradients, replay):
    x = images()
    places = [input_places(x.shape, 0)]
    found = decompose(network, [x], gradients, lambda y: y[:, 0], places=places, replay=replay)
    return found.decomposition


def test_a_call_with_too_little_memory_for_a_replay_is_recorded(recorded):
    network, gradients, replay = ready(Drawing()), _out_of_memory_at(2), Replay()
    expected = _run(network, gradients, replay)
    network.draws = True
    torch.manual_seed(0)
    assert_equal(_run(network, gradients, replay), expected)
    assert len(recorded) == 2
    drawn_after = torch.rand(3)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(drawn_after, torch.rand(3))
    assert_equal(_run(network, gradients, replay), expected)
    assert len(recorded) == 3


def _double(module, inputs, output):
    output.data.mul_(2)


@pytest.mark.filterwarnings("ignore:Incomplete decomposition")
def test_a_replay_is_checked_although_another_call_ends_before_it(recorded):
    network, replay, between = ready(Residual()), Replay(), []

    def gradients(forward, leaves):
        output = forward(*leaves).sum()
        while between:
            between.pop()()
        return torch.autograd.grad(output, leaves)

    for _ in range(2):
        _run(network, gradients, replay)
    assert len(recorded) == 1
    network.stem.register_forward_hook(_double)  # which the graph does not show
    between.append(lambda: _run(network, gradients, replay))  # as in another thread
    assert_equal(_run(network, gradients, replay), _run(network, gradients, Replay()))


def test_a_call_with_too_little_memory_for_recording_raises():
    with pytest.raises(torch.OutOfMemoryError):
        _run(ready(Residual()), _out_of_memory_at(1), Replay())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of anomalies
def test_an_error_in_the_backward_pass_is_not_explained_by_an_unused_input():
    network = ready(Residual())
    method = TGradAttribution(network)
    method.attribute(images(), target=0)
    with torch.no_grad():
        network.head.weight.fill_(torch.nan)
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(RuntimeError, match="returned nan values"),
    ):
        method.attribute(images(), target=0)


def test_activation_checkpointing():
    class Checkpointed(Residual):
        def forward(self, x):
            x = checkpoint(self.stem, x, use_reentrant=False)
            return self.head(torch.cat([x, x], 1).mean((2, 3)))

    method = TGradAttribution(ready(Checkpointed()))
    for _ in range(3):
        assert_as_recorded(method, images(), target=0)


def test_a_hook_that_changes_a_gradient():
    class Hooked(Residual):
        def forward(self, x):
            x = self.stem(x)
            x.register_hook(lambda gradient: 2 * gradient)
            return self.head(torch.cat([x, x], 1).mean((2, 3)))

    method = TGradAttribution(ready(Hooked()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an incomplete decomposition
        for _ in range(3):
            assert_as_recorded(method, images(), target=0)


def _triple_gradient(module, inputs, output):
    output.register_hook(lambda gradient: 3 * gradient)


@pytest.mark.parametrize("of_module", [True, False])
def test_a_hook_that_is_added_between_two_calls(of_module, recorded):
    """Before the normalization, the terms sum to zero, so that their sum does not show it."""
    network = ready(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LayerNorm(196), nn.Linear(196, 3))
    )
    method = TGradAttribution(network if of_module else lambda x: network(x))
    for _ in range(2):
        method.attribute(images(), target=0)
    assert len(recorded) == 1
    network[0].register_forward_hook(_triple_gradient)
    for number in (2, 3):
        with pytest.warns(UserWarning, match="Incomplete decomposition"):
            found = method.decompose(images(), target=0)
        assert len(recorded) == number
    with pytest.warns(UserWarning, match="Incomplete decomposition"):
        assert_equal(found, TGradAttribution(network).decompose(images(), target=0))


def test_a_hook_of_another_thread_ends_no_replay(recorded):
    network = ready(Residual())
    method = TGradAttribution(network)
    method.attribute(images(), target=0)
    with ThreadPoolExecutor(1) as thread:

        def add_elsewhere(module, inputs):
            thread.submit(RemovableHandle, OrderedDict()).result()

        with network.stem.register_forward_pre_hook(add_elsewhere):
            method.attribute(images(), target=0)
        assert len(recorded) == 2
        method.attribute(images(), target=0)
        assert len(recorded) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_the_method_explains_the_copy_of_the_network(copied):
    method = TGradAttribution(ready(Residual()))
    for _ in range(2):
        method.attribute(images(), target=0)
    other = copied(method)
    other.forward_func.stem.bias.data.add_(1)
    for _ in range(2):
        assert_as_recorded(other, images(), target=0)
    assert_as_recorded(method, images(), target=0)


def test_a_replay_leaves_nothing_behind():
    network, x = ready(Residual()), images().requires_grad_()
    method = TGradAttribution(network)
    method.attribute(x, target=0)
    before = copy.deepcopy(network.state_dict())
    state = torch.random.get_rng_state()
    method.attribute(x, target=0)
    assert x.grad is None
    assert x._backward_hooks is None
    assert torch.equal(torch.random.get_rng_state(), state)
    for parameter in network.parameters():
        assert parameter.grad is None
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


_FUSED_ATTENTION = ("is_causal", "key", "output", "query", "scale", "value")


@pytest.mark.parametrize("function", [torch.square, torch.exp, torch.tanh, torch.sin])
def test_terms_of_complex_numbers_are_recorded(function):
    shift = nn.Parameter(torch.tensor(1 + 2j))
    for dtype in (torch.complex64, torch.float32):  # a real number becomes complex with the shift
        method = TGradAttribution(lambda x, dtype=dtype: function(x.to(dtype) + shift).abs().sum(1))
        for _ in range(2):
            assert_as_recorded(method, images(2, 4))


@pytest.mark.parametrize(
    ("kind", "names"),
    {
        "CudnnBatchNorm": ("epsilon", "running_mean", "running_var", "weight"),
        "NativeBatchNorm": ("eps", "running_mean", "running_var", "weight"),
        "ScaledDotProductEfficientAttention": ("attn_bias", *_FUSED_ATTENTION),
        "ScaledDotProductFlashAttentionForCpu": ("attn_mask", *_FUSED_ATTENTION),
    }.items(),
)
def test_nodes_of_every_device_have_the_attributes_that_are_read(kind, names):
    node = getattr(torch._C._functions, f"{kind}Backward0")
    assert all(hasattr(node, f"_saved_{name}") for name in names)


@pytest.mark.parametrize(
    ("shape", "is_small"),
    [
        ((1, 3, 96, 96), True),
        ((8, 3, 96, 96), True),
        ((64, 3, 96, 96), False),
        ((6, 3, 224, 224), True),
        ((8, 3, 224, 224), False),
        ((1, 3, 299, 299), False),
        ((), True),
        ((0, 3), True),
    ],
)
def test_large_samples_and_batches_are_recorded(shape, is_small):
    assert are_small([torch.empty(shape)]) == is_small


@pytest.mark.parametrize(("batch", "is_tried"), [(1, True), (64, True), (128, False)])
def test_larger_batches_are_replayed_on_a_gpu(batch, is_tried):
    leaf = torch.empty(batch, 3, 224, 224, device="meta")
    found = Replay().pass_of(ready(Residual()), [leaf], [input_places(leaf.shape, 0)])
    assert (found is not None) == is_tried


@pytest.mark.parametrize(
    "form",
    [
        lambda h: h.clamp(min=0),
        lambda h: h.clamp(0, None),
        lambda h: torch.clamp_min(h, 0),
        lambda h: -(-h).clamp_max(0),
    ],
)
def test_a_clamp_at_zero_has_no_term_as_a_relu(form):
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def method(form):
        return TGradAttribution(lambda x: form(second(form(first(x)))).mean((1, 2, 3)))

    found, expected, x = method(form), method(torch.relu), torch.rand(2, 3, 9, 9)
    names = [term.name for term in expected.decompose(x).terms]
    for _ in range(2):
        assert [term.name for term in found.decompose(x).terms] == names
        torch.testing.assert_close(found.attribute(x), expected.attribute(x))
