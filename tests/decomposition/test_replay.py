"""A later call on a network whose graph has not changed gives what a recorded call gives."""

import copy
import pickle
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.transforms import Normalize

from captum_tgrad import TGradAttribution
from captum_tgrad.decomposition.decompose import decompose
from captum_tgrad.decomposition.places.places import input_places
from captum_tgrad.decomposition.replay.replay import Replay, are_small
from captum_tgrad.decomposition.tracing.trace import Trace


class Residual(nn.Module):
    """Convolutions with and without biases, batch norms, a sum, a concatenation and poolings."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.main = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU6(inplace=True)
        )
        self.side = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.stem(x), inplace=True)
        y = self.main(x)
        y += self.side(x)
        x = torch.cat([self.pool(F.leaky_relu(y)), F.avg_pool2d(x, 3, 2, 1)], 1)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def _ready(network):
    torch.manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(0.3 + torch.rand_like(tensor) * torch.randn_like(tensor).sign())
    for name, tensor in network.named_buffers():
        if name.endswith("running_var"):
            tensor.abs_()
    return network.eval()


def _inputs(*shape, seed=1):
    return torch.randn(*shape or (2, 3, 9, 9), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def recorded(monkeypatch):
    """A list that gets an entry for every forward pass that is recorded."""
    passes, follow = [], Trace.follow

    def noted(self, leaves):
        passes.append(self)
        return follow(self, leaves)

    monkeypatch.setattr(Trace, "follow", noted)
    return passes


def _assert_equal(found, expected):
    """Both decompositions are equal to the last bit."""
    assert [term.name for term in found] == [term.name for term in expected]
    assert torch.equal(found.output, expected.output)
    assert torch.equal(found.delta, expected.delta)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.score, other.score)
        assert torch.equal(one.positive, other.positive)
        assert torch.equal(one.negative, other.negative)


def _assert_as_recorded(method, x, **arguments):
    fresh = TGradAttribution(method.forward_func)
    _assert_equal(method.decompose(x, **arguments), fresh.decompose(x, **arguments))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_replay_gives_the_same_without_recording(dtype, memory_format, recorded):
    method = TGradAttribution(_ready(Residual()).to(dtype, memory_format=memory_format))
    method.attribute(_inputs().to(dtype, memory_format=memory_format), target=0)
    assert len(recorded) == 1
    for seed in (2, 3):
        x = _inputs(seed=seed).to(dtype, memory_format=memory_format)
        found = method.decompose(x, target=seed - 1)
        assert len(recorded) == seed - 1  # not recorded
        _assert_equal(found, TGradAttribution(method.forward_func).decompose(x, target=seed - 1))


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
    network, runs = _ready(network), []
    network.register_forward_pre_hook(lambda *arguments: runs.append(1))
    method = TGradAttribution(network)
    for number in (1, 2, 3):
        method.attribute(_inputs(), target=0)
        assert len(runs) == number


def test_new_values_of_parameters_and_statistics_are_seen(recorded):
    network = _ready(Residual())
    method = TGradAttribution(network)
    method.attribute(_inputs(), target=0)
    with torch.no_grad():
        network.stem.bias.data.add_(1)
        network.main[1].running_mean.mul_(2)
        network.head.weight.mul_(-1)
    found = method.decompose(_inputs(), target=0)
    assert len(recorded) == 1
    _assert_equal(found, TGradAttribution(network).decompose(_inputs(), target=0))


class Tokens(nn.Module):
    """A transformer over patches, with class tokens and positions."""

    def __init__(self, token=(1, 1, 8), tokens=1):
        super().__init__()
        self.tokens = tokens
        self.patches = nn.Conv2d(3, 8, 3, stride=3)
        self.token = nn.Parameter(torch.ones(token))
        self.positions = nn.Parameter(torch.ones(1, 9 + tokens, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.plain, self.norm = nn.LayerNorm(8, elementwise_affine=False), nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.scale, self.keep = nn.Parameter(torch.ones(8)), nn.Parameter(torch.ones(9 + tokens, 1))
        self.last = nn.LayerNorm([9 + tokens, 8], bias=False)
        self.head = nn.Linear(8, 3)
        self.options = {}

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), self.tokens, 8), x], 1) + self.positions
        y = self.plain(x)
        x = x + self.attention(y, y, y, need_weights=False, **self.options)[0]
        x = self.last(x + self.mlp(self.norm(x)) * self.scale)
        return self.head(x[:, 0]) + F.silu((x * self.keep).sum(1))[:, :3]


class Gated(nn.Module):
    """Convolutions with gates, smooth activations, and a shuffle of channels."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.gate, self.hard = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.drop = nn.Dropout(0.2, inplace=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.silu(self.norm(self.stem(x)), inplace=True)
        x = torch.sigmoid(self.gate(F.adaptive_avg_pool2d(x, 1))) * x
        first, second = x.view(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2).chunk(2, 1)
        x = torch.cat([first, F.hardswish(second)], 1)
        x = x * F.hardsigmoid(self.hard(x.mean((2, 3), keepdim=True)))
        x = x.permute(0, 2, 3, 1).mean((1, 2))
        return self.head(self.drop(x))


class Parts(nn.Module):
    """Tensors that are taken apart, stacked, enlarged, subtracted and divided."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.shift = nn.Parameter(torch.empty(6, 1, 1))
        self.scale = nn.Parameter(torch.empty(2, 1, 1))
        self.unit = nn.Parameter(torch.empty(1))
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = F.relu(self.stem(x) - self.shift)
        one, two, three = x.split([1, 2, 3], 1)
        first, second = two.unbind(1)
        pair = self.scale - torch.stack([second, first], 1)
        large = [
            F.interpolate(F.avg_pool2d(part, 2), size=x.shape[2:], mode=mode)
            for part, mode in ((one, "nearest"), (two, "bilinear"), (three, "bicubic"))
        ]
        parts = [pair / two.sigmoid(), self.scale / two.sigmoid(), *large]
        return self.head((torch.cat(parts, 1) / self.unit).mean((2, 3)))


class Moved(nn.Module):
    """Tensors that are padded, shifted, folded and enlarged, and the norm of groups of channels."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.empty(3, 1, 1))
        self.register_buffer("shift", torch.empty(()))
        self.sharpness = nn.Parameter(torch.empty(()))
        self.table = nn.Parameter(torch.empty(5))
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.large = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.head = nn.Linear(12, 3)
        self.padding = 0.0

    def forward(self, x):
        x = F.pad(x - self.mean, (1, 0, 0, 1), value=self.padding)
        x = F.leaky_relu(self.norm(self.stem(x)), 0.1, inplace=True)
        picked = self.table[[4, 0, 2, 1, 3, 3, 1, 0]].view(2, 4).permute(1, 0).transpose(-2, -1)
        x = x + picked.t().contiguous().view(8, 1).unsqueeze(-1)
        focus = (x * (x * self.sharpness).flatten(2).softmax(-1).view_as(x)).sum((2, 3))
        weights = (x.mean((2, 3), keepdim=True) + self.shift).softmax(1)
        x = x * weights.expand(-1, -1, *x.shape[2:]) * 2
        x = torch.tanh(F.pad(x, (1, 1, 1, 1), mode="reflect")).roll((1, 2), (2, 3)).flip(3)
        y = self.large(-x).pow(3)
        z = F.pixel_shuffle(x, 2).square().unfold(2, 4, 2).sum(-1)
        y = y.amax((2, 3)) + y.max(3)[0].repeat(1, 1, 2).min(2)[0]
        parts = [y, F.adaptive_max_pool2d(x, 1).flatten(1)[:, :2], z.mean((2, 3))]
        return self.head(torch.cat([*parts, focus[:, :4]], 1)).softmax(1)


class Units(nn.Module):
    """Activations, a table of positions, numbers, and vectors that are scaled to the length 1."""

    def __init__(self):
        super().__init__()
        self.stem, self.slope = nn.Conv2d(3, 8, 3, stride=3), nn.PReLU(8)
        self.positions = nn.Embedding(9, 8)
        self.head = nn.Linear(8, 3)
        self.offset, self.margin = 0, 0.5

    def forward(self, x):
        x = self.slope(self.stem(x / 0.5 - 0.25)).flatten(2).transpose(1, 2)
        x = F.elu(x + self.positions(torch.arange(9)), 0.7)
        x = torch.stack([sum([x, x.clamp(-1, 1)]), x.clamp_min(-0.2), x.clamp_max(0.3)])
        x = F.normalize((1 - x).mean(0), dim=-1) + self.offset
        return (self.head(x).mean(1) - self.margin).softmax(1)


class Smooth(nn.Module):
    """Elementwise functions that have a derivative everywhere, or nearly."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=3)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.stem(x)
        y = F.mish(x) + F.softplus(x, 2, 1) + F.celu(x, 0.7) + F.logsigmoid(x) + x.sin() + x.cos()
        y = y + x.atan() + torch.erf(x) + (-x.abs()).exp() + torch.log1p(x.exp())
        x = y.square() + 1
        return self.head((y + x.log() + x.rsqrt() + x.reciprocal() + x.sqrt()).mean((2, 3)))


class Raw(nn.Module):
    """Attention, products and a quotient of the input itself."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
        y = F.scaled_dot_product_attention(x, x, x) * x / x.sigmoid()
        y = y + ((x @ x.mT).softmax(-1) @ x) / 2 + torch.bmm(x[:, 0].mT, x[:, 0])[:, None, :1]
        return self.head(y.mean((1, 2)))


class Volume(nn.Module):
    """Convolutions, poolings and enlargements of volumes."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 4, 3, padding=1), nn.GroupNorm(4, 4)
        self.up = nn.ConvTranspose3d(4, 4, 2, stride=2)
        self.head = nn.Conv3d(4, 3, 1)

    def forward(self, x):
        x = x[:, :, None, :8, :8].expand(-1, -1, 4, -1, -1)
        x = F.gelu(self.norm(self.stem(x)), approximate="tanh")
        x = self.up(F.max_pool3d(x, 2))
        x = F.interpolate(F.avg_pool3d(x, 2), scale_factor=4, mode="trilinear")
        return self.head(x).mean((2, 3, 4))


def _assert_close_to_recorded(method, x, tolerance=None, **arguments):
    """Some biases are computed from what autograd saves, which rounds otherwise."""
    found = method.decompose(x, **arguments)
    expected = TGradAttribution(method.forward_func).decompose(x, **arguments)
    assert [term.name for term in found] == [term.name for term in expected]
    tolerance = tolerance or (1e-13 if x.dtype == torch.float64 else 1e-5)
    for one, other in zip(found, expected, strict=True):
        size = other.positive.abs().max() + other.negative.abs().max() + 1e-30
        for field in ("score", "positive", "negative"):
            difference = (getattr(one, field) - getattr(other, field)) / size
            assert float(difference.abs().max()) <= tolerance, one.name


@pytest.mark.parametrize("network", [Tokens, Gated, Parts, Moved, Units, Smooth, Raw, Volume])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_attention_norms_and_smooth_activations_are_replayed(network, count, dtype, recorded):
    method = TGradAttribution(_ready(network()).to(dtype))
    for seed in range(3):
        x = _inputs(count, 3, 9, 9, seed=seed).to(dtype)
        before = len(recorded)
        method.decompose(x, target=0)
        assert len(recorded) == before + (seed == 0)
        _assert_close_to_recorded(method, x, target=seed)


def _mean_in_place(network):
    network.mean.mul_(-2)


def _another_mean(network):
    network.mean = network.mean * 3


def _another_shift(network):
    network.shift = network.shift + 3  # which the softmax does not see


def _padding(network):
    network.padding = 1.0


def _zeros_after_softmax(network):
    network.sharpness.data.fill_(1e4)


@pytest.mark.parametrize("network", [Residual, Gated, Parts, Moved, Volume])
@pytest.mark.parametrize("inside", [True, False])
def test_networks_under_autocast_are_replayed(network, inside, recorded):
    network = _ready(network())

    def under_autocast(x):
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    method = TGradAttribution(under_autocast if inside else network)
    with nullcontext() if inside else torch.autocast("cpu", torch.bfloat16):
        for seed in range(3):
            method.decompose(_inputs(seed=seed), target=0)
        assert len(recorded) == 1
        _assert_close_to_recorded(method, _inputs(), tolerance=0.05, target=1)


CONSTANTS = [_mean_in_place, _another_mean, _another_shift, _padding, _zeros_after_softmax]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("change", CONSTANTS)
def test_constants_that_the_graph_does_not_show_are_seen(change, before):
    _assert_change_is_seen(Moved(), change, before)


def _another_margin(network):
    network.margin = 2  # which the softmax does not see


def _offset(network):
    network.offset = 1


def _other_table(network):
    network.positions.weight.data.mul_(-1)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("change", [_another_margin, _offset, _other_table])
def test_numbers_that_the_graph_does_not_show_are_seen(change, before):
    _assert_change_is_seen(Units(), change, before)


@pytest.mark.parametrize("read", [Tensor.item, float, Tensor.tolist, Tensor.numpy])
def test_numbers_that_are_read_from_data_are_read_again(read, recorded):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))

    def forward(x):
        logits = network(x)
        largest = read(logits.detach().max())
        return (logits - float(largest)).softmax(1)  # the softmax does not see its change

    method = TGradAttribution(forward)
    for seed in range(3):
        _assert_close_to_recorded(method, _inputs(seed=seed), target=0)


def _in_code(logits):
    return torch.tensor([1.0, 2.0, 3.0], dtype=logits.dtype).view(1, 3).cumsum(1)


def _largest(logits):
    return logits.detach().amax(1, keepdim=True)


def _largest_among_zeros(logits):
    constant = torch.zeros(2, 3, dtype=logits.dtype)
    constant[:, 1:][:, 0] = logits.detach().amax(1)
    return constant.sum(1, keepdim=True)


def _largest_added_to_zeros(logits):
    constant = torch.zeros(2, 3, dtype=logits.dtype)
    constant += logits.detach().amax(1, keepdim=True)
    return constant


def _largest_as_out(logits):
    constant = torch.zeros(2, dtype=logits.dtype)
    torch.amax(logits.detach(), 1, out=constant)
    return constant[:, None]


@pytest.mark.parametrize(
    "constant",
    [_in_code, _largest, _largest_among_zeros, _largest_added_to_zeros, _largest_as_out],
)
def test_constants_of_the_code_and_of_data_are_read_in_each_call(constant, recorded):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3))).double()

    def forward(x):
        logits = network(x)
        return (logits - constant(logits)).softmax(1)  # which does not see most of these

    method = TGradAttribution(forward)
    for seed in range(3):
        before = len(recorded)
        x = _inputs(seed=seed).double()
        method.attribute(x, target=0)
        assert len(recorded) == before + (seed == 0)
        _assert_close_to_recorded(method, x, target=0)


SHIFT = 0.5


def _shift_of_a_helper():
    return SHIFT


class Kept:
    """Constants in an attribute of the class, a nested configuration, an array and tensors."""

    shift = 0.5

    def __init__(self):
        self.config = {"options": [SimpleNamespace(shift=0.5)]}
        self.array, self.tensor = np.full(1, 0.5), torch.full((), 0.5)
        self.table, self.row = torch.tensor([0.5, 1.5]), {"row": 0}


KEPT = {
    "class": (lambda kept: kept.shift, lambda kept: setattr(Kept, "shift", 1.5)),
    "configuration": (
        lambda kept: kept.config["options"][0].shift,
        lambda kept: setattr(kept.config["options"][0], "shift", 1.5),
    ),
    "array": (lambda kept: kept.array[0], lambda kept: kept.array.fill(1.5)),
    "tensor": (lambda kept: kept.tensor * 1, lambda kept: kept.tensor.fill_(1.5)),
    "row": (lambda kept: kept.table[kept.row["row"]], lambda kept: kept.row.update(row=1)),
    "global": (lambda kept: SHIFT, lambda kept: globals().update(SHIFT=1.5)),
    "helper": (lambda kept: _shift_of_a_helper(), lambda kept: globals().update(SHIFT=1.5)),
}


@pytest.mark.parametrize(("read", "change"), KEPT.values(), ids=KEPT)
def test_another_constant_is_seen_wherever_it_is_kept(read, change, monkeypatch, recorded):
    monkeypatch.setattr(Kept, "shift", 0.5)
    monkeypatch.setitem(globals(), "SHIFT", 0.5)
    network, kept = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3))).double(), Kept()

    def forward(x):
        return (network(x) - read(kept)).softmax(1)  # which does not see the change

    method = TGradAttribution(forward)
    for number in range(3):
        if number == 2:
            change(kept)
        _assert_close_to_recorded(method, _inputs().double(), target=0)
    assert len(recorded) == 4  # three fresh methods, and the first call


def test_another_constant_in_an_argument_is_seen(recorded):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3))).double()
    method = TGradAttribution(lambda x, shift: (network(x) - shift["shift"]).softmax(1))
    for shift in (0.5, 0.5, 1.5):
        arguments = ({"shift": shift},)
        _assert_close_to_recorded(
            method, _inputs().double(), target=0, additional_forward_args=arguments
        )
    assert len(recorded) == 4


def _overwritten(logits, shift):
    shift = shift.clone()
    result = logits - shift
    shift.mul_(0)
    return result


def _added_in_place(logits, shift):
    result = torch.zeros_like(logits).detach() + 1
    result -= shift * result
    result += logits
    return result


def _in_a_python_function(logits, shift):
    one = torch.ones(2, 3, dtype=logits.dtype)
    return F.gaussian_nll_loss(logits, shift * one, one, reduction="none")


@pytest.mark.parametrize("add", [_overwritten, _added_in_place, _in_a_python_function])
def test_constants_that_are_added_in_other_ways(add):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3))).double()
    method = TGradAttribution(lambda x, shift: add(network(x), shift).softmax(1))
    for value in (0.5, 0.5, 1.5, 1.5):
        shift = torch.tensor(value, dtype=torch.float64)
        _assert_close_to_recorded(
            method, _inputs().double(), target=0, additional_forward_args=(shift,)
        )


class Normalized(nn.Module):
    """A network that normalizes its input by numbers, as torchvision's transform does."""

    def __init__(self):
        super().__init__()
        self.normalize = Normalize([0.4, 0.5, 0.6], [0.2, 0.2, 0.3])
        self.head = nn.Linear(243, 3)

    def forward(self, x):
        return self.head(self.normalize(x).flatten(1))


def test_normalization_by_numbers_is_replayed(recorded):
    method = TGradAttribution(_ready(Normalized()))
    for seed in range(3):
        method.attribute(_inputs(seed=seed), target=0)
    assert len(recorded) == 1
    _assert_close_to_recorded(method, _inputs(), target=0)


def _slightly_other_mean(network):
    network.normalize.mean[0] += 1e-9


@pytest.mark.parametrize("before", [True, False])
def test_another_number_of_a_normalization_is_seen(before):
    _assert_change_is_seen(Normalized(), _slightly_other_mean, before)


def test_a_saturated_clamp_is_seen_after_one_that_was_not(recorded):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3, bias=False)))
    method = TGradAttribution(lambda x: F.normalize(network(x), eps=1e-3))
    for factor in (1, 1, 1e-6):
        method.attribute(_inputs() * factor, target=0)
        _assert_close_to_recorded(method, _inputs() * factor, target=0)
    assert len(recorded) == 6  # three fresh methods, the first call, and both saturated ones


def test_a_constant_that_is_overwritten_before_it_is_used(recorded):
    network = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))

    def scaled(x):
        scale = torch.ones(3)
        scale[1] = 2.0
        return network(x) * scale

    method = TGradAttribution(scaled)
    for seed in range(3):
        method.attribute(_inputs(seed=seed), target=0)
    assert len(recorded) == 1


def _assert_change_is_seen(network, change, before):
    """``before`` is whether the network changes before the first call."""
    method = TGradAttribution(_ready(network).double())
    if not before:
        for _ in range(2):
            method.attribute(_inputs().double(), target=0)
    change(method.forward_func)
    for _ in range(3):
        _assert_close_to_recorded(method, _inputs().double(), target=0)


def _pruned_scale(network):
    network.scale.data[::2] = 0


def _mask(network):
    network.options["attn_mask"] = torch.ones(10, 10, dtype=torch.bool).tril()


def _causal(network):
    network.options.update(attn_mask=torch.ones(10, 10).double(), is_causal=True)


def _other_values(network):
    network.token.data.mul_(-3)
    network.positions.data.add_(1)
    network.last.weight.data[4:] = 7


def _other_eps(network):
    network.norm.eps = 0.5


def _approximate(network):
    network.mlp[1] = nn.GELU("tanh")


def _masked_tokens(network):
    network.keep.data[4:] = 0


def _flipped(network):
    network.patches.register_forward_hook(lambda module, inputs, output: output.flip(2))


def _number_instead_of_positions(network):
    del network.positions
    network.positions = 1.0


CHANGES = [
    _pruned_scale, _masked_tokens, _mask, _causal, _other_values, _other_eps, _approximate,
    _flipped, _number_instead_of_positions,
]  # fmt: skip


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_transformer_is_explained_as_it_is_now(change, before):
    _assert_change_is_seen(Tokens(), change, before)


@pytest.mark.parametrize("token", [(8,), (1, 8), (1, 1, 8), (1, 2, 8)], ids=str)
def test_two_class_tokens(token):
    method = TGradAttribution(_ready(Tokens(token, 2)).double())
    for _ in range(3):
        _assert_close_to_recorded(method, _inputs().double(), target=0)


def test_other_shapes_and_channel_dimensions_are_recorded():
    method = TGradAttribution(_ready(Residual()))
    for x in (_inputs(), _inputs(1, 3, 9, 9), _inputs(2, 3, 12, 9), _inputs()):
        _assert_as_recorded(method, x, target=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of channels that are used as positions
        _assert_as_recorded(method, _inputs(), target=1, channel_dim=2)


def test_the_last_eight_shapes_are_replayed(recorded):
    method = TGradAttribution(_ready(Residual()))
    shapes = [(1, 3, 12, 6 + each) for each in range(8)]
    for shape in (*shapes, *reversed(shapes)):
        _ = method.attribute(_inputs(*shape), target=1)
    assert len(recorded) == 8
    _ = method.attribute(_inputs(1, 3, 12, 20), target=1)
    _ = method.attribute(_inputs(*shapes[0]), target=1)  # the oldest one
    assert len(recorded) == 10


def _stride(network):
    network.stem.stride = (1, 1)


def _another_layer(network):
    network.main[0] = _ready(nn.Conv2d(4, 4, 3, padding=1))


def _no_bias(network):
    network.stem.bias = None


def _frozen(network):
    network.requires_grad_(False)


def _frozen_biases(network):
    network.stem.bias.requires_grad_(False)


def _other_weights(network):
    network.stem.weight = nn.Parameter(network.stem.weight.detach() * 2)


def _constant(network):
    network.head.register_forward_hook(lambda module, inputs, output: output + 1)


def _detached(network):
    network.side.register_forward_hook(lambda module, inputs, output: output.detach())


def _float64(network):
    network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))


@pytest.mark.parametrize(
    "change",
    [
        _stride,
        _another_layer,
        _no_bias,
        _frozen,
        _frozen_biases,
        _other_weights,
        _constant,
        _detached,
        _float64,
    ],
)
def test_a_changed_network_is_explained_as_it_is_now(change):
    network = _ready(Residual())
    method = TGradAttribution(network)
    method.attribute(_inputs(), target=0)
    change(network)
    for _ in range(2):
        _assert_as_recorded(method, _inputs(), target=0)


@pytest.mark.parametrize("frozen", [_frozen, _frozen_biases])
def test_a_frozen_network_is_replayed_and_stays_frozen(frozen, recorded):
    network = _ready(Residual())
    frozen(network)
    before = [parameter.requires_grad for parameter in network.parameters()]
    method = TGradAttribution(network)
    expected = method.decompose(_inputs(), target=0)
    _assert_equal(method.decompose(_inputs(), target=0), expected)
    assert len(recorded) == 1
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert all(parameter.grad is None for parameter in network.parameters())
    network.head.register_forward_hook(_fail)
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(_inputs(), target=0)
    assert [parameter.requires_grad for parameter in network.parameters()] == before


def _fail(*arguments):
    raise RuntimeError("of the network")


def _as_array(x, scale):
    return x * torch.from_numpy(scale.numpy())


def _clamped(x, scale):
    return x * scale.clamp_(0, 1)


def _as_out(x, scale):
    return x * torch.add(scale, 1, out=torch.empty(3))


def _twice_if_trainable(x, scale):
    return x * (2 if scale.requires_grad else 1)


@pytest.mark.parametrize("scaled", [_as_array, _clamped, _as_out, _twice_if_trainable])
def test_what_works_with_a_frozen_parameter_only(scaled):
    network = nn.Sequential(nn.Flatten(), nn.Linear(243, 3))
    network.scale = nn.Parameter(torch.ones(3))
    network = _ready(network).requires_grad_(False)
    network.register_forward_hook(lambda module, inputs, output: scaled(output, module.scale))
    method = TGradAttribution(network)
    for seed in range(3):
        _assert_close_to_recorded(method, _inputs(seed=seed), target=0)


@pytest.mark.parametrize("of_module", [True, False])
def test_a_batch_norm_in_training_mode_keeps_its_statistics(of_module):
    network = _ready(Residual())
    method = TGradAttribution(network if of_module else lambda x: network(x))
    method.attribute(_inputs(), target=0)
    network.main[1].train()
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(ValueError, match=r"batch norm .* is in training mode"):
        method.attribute(_inputs(), target=0)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    network.eval()
    _assert_as_recorded(method, _inputs(), target=0)


def test_functions_are_replayed(recorded):
    network = _ready(Residual()).requires_grad_(False)
    for function, target in (
        (lambda x: network(x), 2),
        (lambda x: network(x)[:, 1] - network(x)[:, 0], None),
        (network.forward, 2),
    ):
        method = TGradAttribution(function)
        recorded.clear()
        for seed in (1, 2):
            found = method.decompose(_inputs(seed=seed), target=target)
        assert len(recorded) == 1
        _assert_equal(found, TGradAttribution(function).decompose(_inputs(seed=2), target=target))


def test_what_a_function_runs_may_change():
    networks = [_ready(Residual())]
    method = TGradAttribution(lambda x: networks[-1](x))
    for change in (_stride, _no_bias, _another_layer, _constant):
        for _ in range(2):
            _assert_as_recorded(method, _inputs(), target=0)
        networks.append(_ready(Residual()))
        change(networks[-1])
        del networks[:-1]
    method.forward_func = _ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))
    for _ in range(2):
        _assert_as_recorded(method, _inputs(), target=0)


class Flagged(nn.Module):
    """A small network that runs another line of code if its flag is set."""

    def __init__(self, run):
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.rows = nn.Parameter(torch.ones(2, 3))
        self.flag, self.run = False, run

    def forward(self, x):
        return self.run(self, x)

    def last(self, x, weight=None, bias=None):
        x = x.relu().mean((2, 3))
        return self.fc(x) if weight is None else F.linear(x, weight, bias)


def _bias_of_each_sample(net, x):
    return net.last(net.conv(x), net.fc.weight, net.rows if net.flag else net.fc.bias)


def _transposed_bias(net, x):
    bias, transposed = net.fc.bias, net.fc.bias.t()
    return net.last(net.conv(x), net.fc.weight, transposed if net.flag else bias)


def _constant_summand(net, x):
    return net.last(net.conv(x) + float(net.flag))


def _node_hook(net, x):
    x = net.conv(x)
    x.grad_fn.register_prehook(lambda gradients: (2 * gradients[0],))
    return net.last(x)


def _dtype_of_mean(net, x):
    return net.conv(x).relu().mean((2, 3), dtype=torch.bfloat16 if net.flag else None)


def _only_bfloat16_mean(net, x):
    return net.conv(x).relu().mean((2, 3), dtype=torch.bfloat16)


def _random_branch(net, x):
    x = net.conv(x)
    return net.last(x if torch.rand(()) < 0.5 - net.flag else net.norm(x))


def _dropout(net, x):
    return net.last(F.dropout(net.conv(x), 0.5, net.flag))


def _random_dropout(net, x):
    return net.last(F.dropout(net.conv(x), 0.5 if net.flag else 0.0, training=True))


@pytest.mark.filterwarnings("ignore:Incomplete decomposition")
@pytest.mark.parametrize(
    "run",
    [
        _bias_of_each_sample,
        _transposed_bias,
        _constant_summand,
        _node_hook,
        _dtype_of_mean,
        _only_bfloat16_mean,
        _random_branch,
        _dropout,
        _random_dropout,
    ],
)
def test_a_network_that_runs_another_line_of_code_is_recorded_again(run):
    network = _ready(Flagged(run))
    method = TGradAttribution(network)
    for flag in (False, False, True, True, False):
        network.flag = flag
        results = []
        for each in (method, TGradAttribution(network)):
            torch.manual_seed(3)
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                decomposition = each.decompose(_inputs(), target=0)
            results.append((decomposition, [str(warning.message) for warning in raised]))
            results.append(torch.random.get_rng_state())
        (found, warned), state, (expected, expected_warnings), expected_state = results
        _assert_equal(found, expected)
        assert warned == expected_warnings
        assert torch.equal(state, expected_state)


@pytest.mark.parametrize("is_data", [False, True])
def test_a_bias_that_the_network_overwrites_after_use(is_data):
    def run(net, x):
        x = net.conv(x)
        with torch.no_grad():
            (net.conv.bias.data if is_data else net.conv.bias).add_(1)
        return net.last(x)

    network = _ready(Flagged(run))
    method, before = TGradAttribution(network), network.conv.bias.detach().clone()
    for _ in range(2):
        results = []
        for each in (method, TGradAttribution(network)):
            network.conv.bias.data.copy_(before)
            results.append(each.decompose(_inputs(), target=0))
        _assert_equal(*results)


def test_a_branch_that_depends_on_the_input_is_seen():
    class Flipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            x = self.conv(x if x.mean() > 0 else x.flip(-1)).relu()
            return x.flatten(1).mean(1, keepdim=True)

    method = TGradAttribution(_ready(Flipping()))
    for x in (_inputs().abs(), -_inputs().abs(), _inputs().abs()):
        _assert_as_recorded(method, x, target=0)


def test_places_that_depend_on_weights_are_found_again(recorded):
    """Weights without zeros mix all positions; a permutation only moves them."""
    network = nn.Sequential(
        nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(49, 49), nn.ReLU(), nn.Linear(49, 3)
    )
    method = TGradAttribution(_ready(network))
    for count in (1, 1):
        method.decompose(_inputs(), target=0)
        assert len(recorded) == count
    assert method.decompose(_inputs(), target=0)["2"].resolution == "-"
    with torch.no_grad():
        network[2].weight.copy_(torch.eye(49).flip(0))
    assert method.decompose(_inputs(), target=0)["2"].resolution == "7 x 7"
    _assert_as_recorded(method, _inputs(), target=0)


@pytest.mark.parametrize(
    "computed",
    [
        lambda weight, gain: weight * 2,
        lambda weight, gain: weight * gain,
        lambda weight, gain: weight + gain * 0.3,
        lambda weight, gain: weight / weight.norm(),
        lambda weight, gain: F.batch_norm(
            weight.view(1, 4, -1), None, None, gain.flatten() * 0.3, training=True
        ).view_as(weight),
    ],
    ids=["doubled", "scaled", "shifted", "normalized", "standardized"],
)
def test_a_weight_that_is_computed_from_parameters(computed):
    class Computed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(4, 3, 3, 3))
            self.gain = nn.Parameter(torch.empty(4, 1, 1, 1))

        def forward(self, x):
            return F.conv2d(x, computed(self.weight, self.gain)).sigmoid().mean((2, 3))

    method = TGradAttribution(_ready(Computed()))
    for seed in (1, 2, 3):
        _assert_as_recorded(method, _inputs(seed=seed), target=0)


def test_an_error_of_the_network_is_raised_and_forgotten():
    class Failing(Residual):
        fails = False

        def forward(self, x):
            if self.fails:
                raise RuntimeError("of the network")
            return super().forward(x)

    network = _ready(Failing())
    method = TGradAttribution(network)
    method.attribute(_inputs(), target=0)
    network.fails = True
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(_inputs(), target=0)
    network.fails = False
    _assert_as_recorded(method, _inputs(), target=0)


def test_an_error_that_the_network_raises_once_is_raised():
    network, runs = _ready(Residual()), []

    def fail_once(module, inputs):
        runs.append(1)
        if len(runs) == 2:
            raise RuntimeError("of the network")

    network.register_forward_pre_hook(fail_once)
    method = TGradAttribution(network)
    method.attribute(_inputs(), target=0)
    with pytest.raises(RuntimeError, match="of the network"):
        method.attribute(_inputs(), target=0)
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
    found = decompose(network, [_inputs()], gradients, lambda y: y[:, 0], replay=replay)
    return found.decomposition


def test_a_call_with_too_little_memory_for_a_replay_is_recorded(recorded):
    network, gradients, replay = _ready(Drawing()), _out_of_memory_at(2), Replay()
    expected = _run(network, gradients, replay)
    network.draws = True
    torch.manual_seed(0)
    _assert_equal(_run(network, gradients, replay), expected)
    assert len(recorded) == 2
    drawn_after = torch.rand(3)
    torch.manual_seed(0)
    torch.rand(3)
    assert torch.equal(drawn_after, torch.rand(3))
    _assert_equal(_run(network, gradients, replay), expected)
    assert len(recorded) == 3


def test_a_call_with_too_little_memory_for_recording_raises():
    with pytest.raises(torch.OutOfMemoryError):
        _run(_ready(Residual()), _out_of_memory_at(1), Replay())


@pytest.mark.filterwarnings("ignore::UserWarning")  # of anomalies
def test_an_error_in_the_backward_pass_is_not_explained_by_an_unused_input():
    network = _ready(Residual())
    method = TGradAttribution(network)
    method.attribute(_inputs(), target=0)
    with torch.no_grad():
        network.head.weight.fill_(torch.nan)
    with (
        torch.autograd.set_detect_anomaly(True),
        pytest.raises(RuntimeError, match="returned nan values"),
    ):
        method.attribute(_inputs(), target=0)


def test_activation_checkpointing():
    class Checkpointed(Residual):
        def forward(self, x):
            x = checkpoint(self.stem, x, use_reentrant=False)
            return self.head(torch.cat([x, x], 1).mean((2, 3)))

    method = TGradAttribution(_ready(Checkpointed()))
    for _ in range(3):
        _assert_as_recorded(method, _inputs(), target=0)


def test_a_hook_that_changes_a_gradient():
    class Hooked(Residual):
        def forward(self, x):
            x = self.stem(x)
            x.register_hook(lambda gradient: 2 * gradient)
            return self.head(torch.cat([x, x], 1).mean((2, 3)))

    method = TGradAttribution(_ready(Hooked()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an incomplete decomposition
        for _ in range(3):
            _assert_as_recorded(method, _inputs(), target=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_of_the_method_explains_the_copy_of_the_network(copied):
    method = TGradAttribution(_ready(Residual()))
    for _ in range(2):
        method.attribute(_inputs(), target=0)
    other = copied(method)
    other.forward_func.stem.bias.data.add_(1)
    for _ in range(2):
        _assert_as_recorded(other, _inputs(), target=0)
    _assert_as_recorded(method, _inputs(), target=0)


def test_a_replay_leaves_nothing_behind():
    network, x = _ready(Residual()), _inputs().requires_grad_()
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
    found = Replay().pass_of(_ready(Residual()), [leaf], [input_places(leaf.shape, 0)])
    assert (found is not None) == is_tried
