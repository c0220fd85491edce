"""No call changes the running statistics of norms, however a network runs them."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import LayerTGradAttribution, TGradAttribution
from tests.networks.replayed import images, ready

ATEN = torch.ops.aten


class Switched(nn.Module):
    """A network with norms that use the statistics of the batch once ``flag`` is set."""

    def __init__(self, norm):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.batch, self.instance = (
            nn.BatchNorm2d(4),
            nn.InstanceNorm2d(4, track_running_stats=True),
        )
        self.mean, self.variance = torch.rand(4), torch.rand(4) + 0.5
        self.norm, self.flag = norm, False

    def forward(self, x):
        return self.head(self.norm(self, self.stem(x)).mean((2, 3)))

    def statistics(self):
        return copy.deepcopy([self.mean, self.variance, *self.buffers()])


def _flipped(name):
    def norm(net, z):
        module = getattr(net, name).train(net.flag)
        try:
            return module(z)
        finally:
            module.eval()

    return norm


BATCH_NORMS = {
    "functional": lambda net, z: F.batch_norm(z, net.mean, net.variance, training=net.flag),
    "with weights": lambda net, z: F.batch_norm(
        z, net.mean, net.variance, net.batch.weight, net.batch.bias, net.flag
    ),
    "torch": lambda net, z: torch.batch_norm(
        z, None, None, net.mean, net.variance, net.flag, 0.1, 1e-5, True
    ),
    "keywords": lambda net, z: torch.batch_norm(
        input=z, weight=None, bias=None, running_mean=net.mean, running_var=net.variance,
        training=net.flag, momentum=0.1, eps=1e-5, cudnn_enabled=True,
    ),
    "native": lambda net, z: torch.native_batch_norm(
        z, None, None, net.mean, net.variance, net.flag, 0.1, 1e-5
    )[0],
    "aten": lambda net, z: ATEN.native_batch_norm(
        z, None, None, net.mean, net.variance, net.flag, 0.1, 1e-5
    )[0],
    "flipped": _flipped("batch"),
    "buffers of a module": lambda net, z: (
        F.batch_norm(z, net.batch.running_mean, net.batch.running_var, training=True)
        if net.flag
        else z
    ),
}  # fmt: skip
INSTANCE_NORMS = {
    "functional": lambda net, z: F.instance_norm(
        z, net.mean, net.variance, use_input_stats=net.flag
    ),
    "buffers of a module": lambda net, z: (
        F.instance_norm(z, net.instance.running_mean, net.instance.running_var) if net.flag else z
    ),
    "torch": lambda net, z: torch.instance_norm(
        z, None, None, net.mean, net.variance, net.flag, 0.1, 1e-5, True
    ),
    "aten": lambda net, z: ATEN.instance_norm(
        z, None, None, net.mean, net.variance, net.flag, 0.1, 1e-5, True
    ),
    "flipped": _flipped("instance"),
}
METHODS = {
    "network": TGradAttribution,
    "function": lambda net: TGradAttribution(lambda x: net(x)),
    "layer": lambda net: LayerTGradAttribution(net, net.stem),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("norm", BATCH_NORMS.values(), ids=BATCH_NORMS)
def test_a_batch_norm_over_the_batch_is_refused_before_it_counts_the_batch(norm, calls, method):
    net = ready(Switched(norm))
    explainer = method(net)
    for _ in range(calls):
        explainer.attribute(images(), target=0)
    net.flag, before = True, net.statistics()
    with pytest.raises(ValueError, match="normalizes over the batch"):
        explainer.attribute(images(), target=0)
    assert all(map(torch.equal, net.statistics(), before))
    net.flag = False
    explainer.attribute(images(), target=0)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("norm", INSTANCE_NORMS.values(), ids=INSTANCE_NORMS)
def test_an_instance_norm_keeps_its_statistics(norm, calls, method):
    net = ready(Switched(norm))
    explainer = method(net)
    for _ in range(calls):
        explainer.attribute(images(), target=0)
    net.flag, before = True, net.statistics()
    for _ in range(2):
        found = explainer.decompose(images(), target=0)
        assert all(map(torch.equal, net.statistics(), before))
    torch.testing.assert_close(found.output, copy.deepcopy(net)(images())[:, 0])


@pytest.mark.parametrize("norm", BATCH_NORMS.values(), ids=BATCH_NORMS)
def test_an_error_of_a_network_that_trains_itself(norm):
    """In a call that records nothing, the network runs up to its own error."""
    net = ready(Switched(norm))
    explainer = TGradAttribution(net)
    explainer.attribute(images(), target=0)
    net.flag, before = True, net.statistics()
    net.head.forward = lambda x: 1 / 0
    with pytest.raises((ZeroDivisionError, ValueError)):
        explainer.attribute(images(), target=0)
    assert all(map(torch.equal, net.statistics(), before))


@pytest.mark.parametrize("count", [None, torch.tensor([5])])
def test_norms_with_an_unusual_count_of_batches(count):
    net = ready(Switched(BATCH_NORMS["flipped"]))
    net.batch.register_buffer("num_batches_tracked", count)
    net = ready(nn.Sequential(nn.BatchNorm2d(3), net))
    del net[1].instance.num_batches_tracked
    explainer = TGradAttribution(net)
    first, later = (explainer.attribute(images(), target=0) for _ in range(2))
    torch.testing.assert_close(first, later)


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize("norm", ["functional", "torch", "native", "aten"])
def test_a_batch_norm_of_constants_keeps_its_statistics(norm, calls):
    constant = torch.rand(2, 4, 7, 7)
    net = ready(Switched(lambda net, z: z + BATCH_NORMS[norm](net, constant)))
    explainer = TGradAttribution(net)
    for _ in range(calls):
        explainer.attribute(images(), target=0)
    net.flag, before = True, net.statistics()
    found = explainer.decompose(images(), target=0)
    assert all(map(torch.equal, net.statistics(), before))
    torch.testing.assert_close(found.output, copy.deepcopy(net)(images())[:, 0])


def test_a_look_for_random_numbers_keeps_the_statistics():
    def norm(net, z):
        torch.rand([])  # which the output does not depend on
        return F.instance_norm(z, net.mean, net.variance)

    net = ready(Switched(norm))
    before = net.statistics()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TGradAttribution(net).attribute(images(), target=0)
    assert all(map(torch.equal, net.statistics(), before))


def test_the_layer_of_tokens_is_found_without_changing_statistics():
    table = nn.Embedding(5, 4)
    mean, variance = torch.rand(4), torch.rand(4) + 0.5
    head = nn.Linear(4, 2)

    def forward(tokens):
        return head(F.batch_norm(table(tokens).flatten(0, 1), mean, variance, training=True))

    before = mean.clone(), variance.clone()
    with pytest.raises(ValueError, match="normalizes over the batch"):
        LayerTGradAttribution(forward, table).attribute(torch.tensor([[1], [3]]), target=0)
    assert all(map(torch.equal, (mean, variance), before))


class _Styled(nn.Module):
    """A network that normalizes each sample alone, as an instance norm or as a batch norm."""

    def __init__(self, is_adaptive, as_batch_norm):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.style, self.weight, self.bias = nn.Linear(4, 8), torch.rand(4), torch.rand(4)
        self.is_adaptive, self.as_batch_norm = is_adaptive, as_batch_norm
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x):
        z = self.stem(x)
        samples = len(z)
        weight, bias = self.weight.repeat(samples, 1), self.bias.repeat(samples, 1)
        if self.is_adaptive:
            weight, bias = self.style(z.mean((2, 3))).split(4, 1)
        if self.as_batch_norm:
            every = (each.flatten() for each in (weight, bias))
            statistics = (each.repeat(samples) for each in (self.mean, self.variance))
            row = z.reshape(1, -1, *z.shape[2:])
            z = F.batch_norm(row, *statistics, *every, training=True).view_as(z)
        elif self.is_adaptive:
            z = F.instance_norm(z) * weight[..., None, None] + bias[..., None, None]
        else:
            z = F.instance_norm(z, weight=self.weight, bias=self.bias)
        return self.head(self.last(z.relu()).relu().mean((2, 3)))


@pytest.mark.parametrize("samples", [3, 1])
@pytest.mark.parametrize("is_adaptive", [False, True])
def test_a_batch_norm_of_each_sample_alone_has_the_map_of_an_instance_norm(is_adaptive, samples):
    methods = [
        TGradAttribution(_Styled(is_adaptive, as_batch_norm).eval())
        for as_batch_norm in (True, False)
    ]
    for seed in range(4):
        x = images(samples, 3, 9, 9, seed=seed)
        found, expected = (method.decompose(x, target=1) for method in methods)
        torch.testing.assert_close(found.output, expected.output)
        torch.testing.assert_close(found.delta, torch.zeros(samples), rtol=0, atol=1e-6)
        found, expected = (method.attribute(x, target=1) for method in methods)
        torch.testing.assert_close(found, expected)


def test_a_batch_norm_of_one_sample_in_training_mode_is_refused():
    network = _Styled(False, True)
    TGradAttribution(network).attribute(images(), target=1)  # each sample has channels of its own
    with pytest.raises(ValueError, match="normalizes over the batch"):
        TGradAttribution(network).attribute(images(1, 3, 9, 9), target=1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_decomposed_instance_norm_has_the_map_of_its_module():
    network, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.InstanceNorm2d(4, affine=True)), images()
    network = nn.Sequential(network, nn.ReLU(), nn.Flatten(), nn.Linear(196, 3)).eval()
    program = torch.export.export(network, (x,)).run_decompositions().module()
    found, expected = (TGradAttribution(each).attribute(x, target=1) for each in (program, network))
    torch.testing.assert_close(found, expected)
