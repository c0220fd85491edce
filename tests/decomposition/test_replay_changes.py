"""A call sees what has changed in the network, its code and its constants since the last call."""

import warnings
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_as_recorded, assert_close_to_recorded, assert_equal
from tests.networks.replayed import Moved, Normalized, Residual, Tokens, Units, images, ready


def _other_values(network):
    network.token.data.mul_(-3)
    network.positions.data.add_(1)
    network.last.weight.data[4:] = 7


def _number_instead_of_positions(network):
    del network.positions
    network.positions = 1.0


def _in_float64(network):
    network.double().register_forward_pre_hook(lambda module, inputs: (inputs[0].double(),))


def _after(module, change):
    module.register_forward_hook(lambda module, inputs, output: change(output))


CHANGES = {
    Residual: {
        "stride": lambda net: setattr(net.stem, "stride", (1, 1)),
        "another layer": lambda net: setattr(net.main, "0", ready(nn.Conv2d(4, 4, 3, padding=1))),
        "no bias": lambda net: setattr(net.stem, "bias", None),
        "another name": lambda net: setattr(net, "stem", nn.Sequential(net.stem).eval()),
        "frozen": lambda net: net.requires_grad_(False),
        "frozen bias": lambda net: net.stem.bias.requires_grad_(False),
        "another weight": lambda net: setattr(
            net.stem, "weight", nn.Parameter(net.stem.weight * 2)
        ),
        "constant": lambda net: _after(net.head, lambda output: output + 1),
        "detached": lambda net: _after(net.side, Tensor.detach),
        "float64": _in_float64,
    },
    Tokens: {
        "pruned scale": lambda net: net.scale.data[::2].zero_(),
        "masked tokens": lambda net: net.keep.data[4:].zero_(),
        "mask": lambda net: net.options.update(attn_mask=torch.ones(10, 10).tril().bool()),
        "causal": lambda net: net.options.update(
            attn_mask=torch.ones(10, 10).double(), is_causal=True
        ),
        "other values": _other_values,
        "epsilon": lambda net: setattr(net.norm, "eps", 0.5),
        "approximation": lambda net: setattr(net.mlp, "1", nn.GELU("tanh")),
        "flipped": lambda net: _after(net.patches, lambda output: output.flip(2)),
        "number instead of positions": _number_instead_of_positions,
    },
    # What the graph does not show.
    Moved: {
        "mean in place": lambda net: net.mean.mul_(-2),
        "another mean": lambda net: setattr(net, "mean", net.mean * 3),
        "a shift that softmax does not see": lambda net: setattr(net, "shift", net.shift + 3),
        "padding": lambda net: setattr(net, "padding", 1.0),
        "zeros after softmax": lambda net: net.sharpness.data.fill_(1e4),
    },
    Units: {
        "a margin that softmax does not see": lambda net: setattr(net, "margin", 2),
        "offset": lambda net: setattr(net, "offset", 1),
        "another table": lambda net: net.positions.weight.data.mul_(-1),
    },
    Normalized: {
        "slightly other mean": lambda net: setattr(net.normalize, "mean", [0.4 + 1e-9, 0.5, 0.6]),
    },
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("network", "change"),
    [
        pytest.param(network, change, id=f"{network.__name__}: {name}")
        for network, changes in CHANGES.items()
        for name, change in changes.items()
    ],
)
def test_a_changed_network_is_explained_as_it_is_now(network, change, before):
    """``before`` is whether the network changes before the first call."""
    x, check = images().double(), assert_close_to_recorded
    network = ready(network()).double()
    if isinstance(network, Residual):
        network, x, check = network.float(), x.float(), assert_as_recorded
    method = TGradAttribution(network)
    if not before:
        for _ in range(2):
            method.attribute(x, target=0)
    change(network)
    for _ in range(3):
        check(method, x, target=0)


def _linear():
    return ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3))).double()


def _among_zeros(logits):
    constant = torch.zeros(2, 3, dtype=logits.dtype)
    constant[:, 1:][:, 0] = logits.amax(1)
    return constant.sum(1, keepdim=True)


def _added_to_zeros(logits):
    constant = torch.zeros(2, 3, dtype=logits.dtype)
    constant += logits.amax(1, keepdim=True)
    return constant


def _as_out(logits):
    constant = torch.zeros(2, dtype=logits.dtype)
    torch.amax(logits, 1, out=constant)
    return constant[:, None]


COMPUTED = {
    "in code": lambda logits: torch.tensor([1.0, 2, 3], dtype=logits.dtype).view(1, 3).cumsum(1),
    "largest": lambda logits: logits.amax(1, keepdim=True),
    "among zeros": _among_zeros,
    "added to zeros": _added_to_zeros,
    "as out": _as_out,
}
READ = {
    "item": lambda logits: logits.max().item(),
    "float": lambda logits: float(logits.max()),
    "tolist": lambda logits: logits.max().tolist(),
    "numpy": lambda logits: float(logits.max().numpy()),
}


@pytest.mark.parametrize("name", [*COMPUTED, *READ])
def test_constants_of_the_code_and_of_data_are_read_in_each_call(name, recorded):
    network, constant = _linear(), {**COMPUTED, **READ}[name]

    def forward(x):
        logits = network(x)
        return (logits - constant(logits.detach())).softmax(1)  # which does not see most of these

    method = TGradAttribution(forward)
    for seed in range(3):
        before, x = len(recorded), images(seed=seed).double()
        method.attribute(x, target=0)
        assert name in READ or len(recorded) == before + (seed == 0)
        assert_close_to_recorded(method, x, target=0)


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
    network, kept = _linear(), Kept()

    def forward(x):
        return (network(x) - read(kept)).softmax(1)  # which does not see the change

    method = TGradAttribution(forward)
    for number in range(3):
        if number == 2:
            change(kept)
        assert_close_to_recorded(method, images().double(), target=0)
    assert len(recorded) == 4  # three fresh methods, and the first call


def test_another_constant_in_an_argument_is_seen(recorded):
    network = _linear()
    method = TGradAttribution(lambda x, shift: (network(x) - shift["shift"]).softmax(1))
    for shift in (0.5, 0.5, 1.5):
        arguments = ({"shift": shift},)
        assert_close_to_recorded(
            method, images().double(), target=0, additional_forward_args=arguments
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
    network = _linear()
    method = TGradAttribution(lambda x, shift: add(network(x), shift).softmax(1))
    for value in (0.5, 0.5, 1.5, 1.5):
        shift = torch.tensor(value, dtype=torch.float64)
        assert_close_to_recorded(
            method, images().double(), target=0, additional_forward_args=(shift,)
        )


@pytest.mark.parametrize("normalized_again", [torch.neg, F.normalize])
def test_a_saturated_clamp_is_seen_after_one_that_was_not(normalized_again, recorded):
    """If the result is normalized again, the terms also add up without the term of the clamp."""
    network = ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3, bias=False)))
    method = TGradAttribution(lambda x: normalized_again(F.normalize(network(x), eps=1e-3)))
    for factor in (1, 1, 1e-6):
        method.attribute(images() * factor, target=0)
        assert_close_to_recorded(method, images() * factor, target=0)
    assert len(recorded) == 6  # three fresh methods, the first call, and both saturated ones


def test_a_constant_that_is_overwritten_before_it_is_used(recorded):
    network = ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))

    def scaled(x):
        scale = torch.ones(3)
        scale[1] = 2.0
        return network(x) * scale

    method = TGradAttribution(scaled)
    for seed in range(3):
        method.attribute(images(seed=seed), target=0)
    assert len(recorded) == 1


def test_new_values_of_parameters_and_statistics_are_seen(recorded):
    network = ready(Residual())
    method = TGradAttribution(network)
    method.attribute(images(), target=0)
    with torch.no_grad():
        network.stem.bias.data.add_(1)
        network.main[1].running_mean.mul_(2)
        network.head.weight.mul_(-1)
    found = method.decompose(images(), target=0)
    assert len(recorded) == 1
    assert_equal(found, TGradAttribution(network).decompose(images(), target=0))


def test_what_a_function_runs_may_change():
    networks = [ready(Residual())]
    method = TGradAttribution(lambda x: networks[-1](x))
    for change in ("stride", "no bias", "another layer", "constant"):
        for _ in range(2):
            assert_as_recorded(method, images(), target=0)
        networks.append(ready(Residual()))
        CHANGES[Residual][change](networks[-1])
        del networks[:-1]
    method.forward_func = ready(nn.Sequential(nn.Flatten(), nn.Linear(243, 3)))
    for _ in range(2):
        assert_as_recorded(method, images(), target=0)


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
    network = ready(network).requires_grad_(False)
    network.register_forward_hook(lambda module, inputs, output: scaled(output, module.scale))
    method = TGradAttribution(network)
    for seed in range(3):
        assert_close_to_recorded(method, images(seed=seed), target=0)


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


def _random_summand(net, x):
    return net.last(net.conv(x) + (torch.rand(4, 1, 1) if net.flag else torch.ones(4, 1, 1)))


def _random_factor(net, x):
    return net.last(net.conv(x) * (1 + torch.rand(4, 1, 1) if net.flag else torch.ones(4, 1, 1)))


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
        _random_summand,
        _random_factor,
        _random_dropout,
    ],
)
def test_a_network_that_runs_another_line_of_code_is_recorded_again(run):
    network = ready(Flagged(run))
    method = TGradAttribution(network)
    for flag in (False, False, True, True, False):
        network.flag = flag
        results = []
        for each in (method, TGradAttribution(network)):
            torch.manual_seed(3)
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                decomposition = each.decompose(images(), target=0)
            results.append((decomposition, [str(warning.message) for warning in raised]))
            results.append(torch.random.get_rng_state())
        (found, warned), state, (expected, expected_warnings), expected_state = results
        assert_equal(found, expected)
        assert warned == expected_warnings
        assert torch.equal(state, expected_state)


@pytest.mark.parametrize("is_data", [False, True])
def test_a_bias_that_the_network_overwrites_after_use(is_data):
    def run(net, x):
        x = net.conv(x)
        with torch.no_grad():
            (net.conv.bias.data if is_data else net.conv.bias).add_(1)
        return net.last(x)

    network = ready(Flagged(run))
    method, before = TGradAttribution(network), network.conv.bias.detach().clone()
    for _ in range(2):
        results = []
        for each in (method, TGradAttribution(network)):
            network.conv.bias.data.copy_(before)
            results.append(each.decompose(images(), target=0))
        assert_equal(*results)


class Registers(nn.Module):
    """Constant tokens before and after the patches."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix = nn.Conv2d(3, 8, 3, stride=3), nn.Linear(8, 8)
        self.before, self.after = (nn.Parameter(torch.ones(2, n, 8)) for n in (1, 3))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = self.mix(torch.cat([self.before, x, self.after], 1)).sigmoid()
        return self.head(x[:, :5].mean(1))


def test_other_numbers_of_tokens_before_and_after_the_patches():
    network = ready(Registers()).double()
    method = TGradAttribution(network)
    for _ in range(4):
        for _ in range(2):
            assert_close_to_recorded(method, images().double(), target=0)
        network.before, network.after = network.after, network.before


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_value_of_a_padding_is_seen_although_the_terms_add_up_without_it(dtype, recorded):
    network, value = ready(nn.Conv2d(3, 4, 3)).to(dtype), {}

    def forward(x):
        x = F.pad(network(x), (1, 1), value=value["now"])
        return x[..., 0].mean((1, 2)) - x[..., -1].mean((1, 2)) + x.mean((1, 2, 3))

    method = TGradAttribution(forward)
    for value["now"] in (0.0, 0.0, 1e-3, 1e-3, 0.5, 0.0):
        assert_close_to_recorded(method, images().to(dtype), target=None)
    assert len(recorded) == 6 + 5  # those of fresh methods, and all but the second call


def test_a_branch_that_depends_on_the_input_is_seen():
    class Flipping(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, x):
            x = self.conv(x if x.mean() > 0 else x.flip(-1)).relu()
            return x.flatten(1).mean(1, keepdim=True)

    method = TGradAttribution(ready(Flipping()))
    for x in (images().abs(), -images().abs(), images().abs()):
        assert_as_recorded(method, x, target=0)


def test_places_that_depend_on_weights_are_found_again(recorded):
    """Weights without zeros mix all positions; a permutation only moves them."""
    network = nn.Sequential(
        nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(49, 49), nn.ReLU(), nn.Linear(49, 3)
    )
    method = TGradAttribution(ready(network))
    for count in (1, 1):
        method.decompose(images(), target=0)
        assert len(recorded) == count
    assert method.decompose(images(), target=0)["2"].resolution == "-"
    with torch.no_grad():
        network[2].weight.copy_(torch.eye(49).flip(0))
    assert method.decompose(images(), target=0)["2"].resolution == "7 x 7"
    assert_as_recorded(method, images(), target=0)


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

    method = TGradAttribution(ready(Computed()))
    for seed in (1, 2, 3):
        assert_as_recorded(method, images(seed=seed), target=0)


def _masked(x, keep):
    return (x.tanh() * keep).sum((1, 2))


def _turned(table, x):
    first, second = x.chunk(2, -1)
    cos, sin = torch.cat([table, table], -1).cos(), torch.cat([table, table], -1).sin()
    return x * cos + torch.cat([-second, first], -1) * sin


def _with_rotary_embeddings(x, table):
    query, value = _turned(table, x.tanh()), x.sigmoid()
    return ((query @ query.mT).softmax(-1) @ value).sum(2)


def _masked_attention(x, mask):
    x = x.mean(1).unflatten(2, (2, 2)).transpose(1, 2)
    return F.scaled_dot_product_attention(x.tanh(), x.sigmoid(), x, attn_mask=mask)


def _in_letters(x, equations):
    scores, mixed = equations
    weights = torch.einsum(scores, x.tanh(), x.sigmoid()).softmax(-1)
    return torch.einsum(mixed, weights, x).sum(2)


def _gated(x, dim):
    return F.glu(x.tanh(), dim).flatten(1)


FIRST = torch.tensor([True, True, False, False]).view(4, 1, 1)
ANGLES = torch.arange(4.0).double()[:, None] / torch.tensor([1.0, 3.0])
ALLOWED = torch.ones(4, 4).tril().bool()

CONSTANTS = {
    "mask of rows or columns": (_masked, [FIRST, FIRST.view(1, 4, 1), FIRST.double(), ~FIRST]),
    "mask of samples or rows": (_masked, [FIRST[None], FIRST[:, None]]),
    "rotary embeddings": (_with_rotary_embeddings, [ANGLES, ANGLES + 1, ANGLES - 2, ANGLES * 2]),
    "boolean mask of attention": (
        _masked_attention, [ALLOWED, ALLOWED.T, ALLOWED & ALLOWED.T, ALLOWED | ALLOWED.T]
    ),
    "einsum": (
        _in_letters,
        [
            ("bcqd,bckd->bcqk", "bcqk,bckd->bcqd"),
            ("bcqd,bckd->bckq", "bcqk,bckd->bcqd"),
            ("bcqd,bckd->bcqk", "bckq,bckd->bcqd"),
            ("bcqd,bckd->bcqk", "bcqk,bckd->bcdq"),
            ("bcdq,bcdk->bcqk", "bcqk,bcdk->bdqc"),
        ],
    ),
    "gated linear unit": (_gated, [1, 2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANTS)
def test_other_masks_angles_and_letters_are_seen_in_a_later_call(name, recorded):
    use, constants = CONSTANTS[name]
    x, weight = images(4, 4, 4, 4).double(), torch.linspace(-1, 2, 16).double().view(4, 4)

    def forward(x, constant):
        y = use(F.linear(x, weight), constant).flatten(1)
        return (y.tanh() * torch.linspace(-1, 2, y.shape[1]).double()).sum(1)

    for first, later in product(range(len(constants)), repeat=2):
        method = TGradAttribution(forward)
        method.decompose(x, channel_dim=3, additional_forward_args=(constants[first],))
        before, arguments = len(recorded), (constants[later],)
        assert_close_to_recorded(method, x, 1e-10, channel_dim=3, additional_forward_args=arguments)
        assert first != later or len(recorded) == before + 1  # by the method that it is compared to


class Remembers(nn.Module):
    """Adds its last activation, which belongs to the graph of an earlier call."""

    def __init__(self):
        super().__init__()
        self.stem, self.head, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), 0

    def forward(self, x):
        z = self.stem(x)
        self.last, before = z, self.last
        return self.head(F.relu(z + before).mean((2, 3)))


def test_a_network_may_keep_an_activation_for_the_next_call():
    method = TGradAttribution(ready(Remembers()))
    for _ in range(4):
        whole = method.decompose(images(), target=0)
        assert float(whole.delta.abs().max()) < 1e-5


class Averages(nn.Module):
    """Subtracts the mean of earlier inputs, a buffer that each call replaces."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, x):
        before, self.mean = (
            self.mean,
            0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))[:, None, None],
        )
        return self.head(self.stem(x - before.detach()).tanh().mean((2, 3)))


@pytest.mark.parametrize("network", [Remembers, Averages])
def test_a_call_that_is_not_replayed_starts_with_what_the_network_kept(network):
    one, other = (ready(network()).double() for _ in range(2))
    method = TGradAttribution(one)
    for seed in range(5):
        if seed == 3:
            for each in (one, other):
                each.stem.weight = nn.Parameter(each.stem.weight * 2)
        found, expected = (
            each.decompose(images(seed=seed).double(), target=0)
            for each in (method, TGradAttribution(other))
        )
        torch.testing.assert_close(found.output, expected.output)
        torch.testing.assert_close(found.map(), expected.map())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of scripts
@pytest.mark.filterwarnings("ignore:A hidden operation loses")
@pytest.mark.parametrize("number", [0, 1], ids=["a layer", "a block"])
def test_a_module_that_became_a_script_is_seen(number):
    block = nn.Sequential(nn.GELU(), nn.Conv2d(4, 4, 1))
    network = ready(nn.Sequential(nn.Conv2d(3, 4, 3), block, nn.Flatten(), nn.Linear(196, 3)))
    method = TGradAttribution(network)
    for _ in range(2):
        method.attribute(images(), target=0)
    network[number] = torch.jit.script(network[number])
    for _ in range(2):
        assert_as_recorded(method, images(), target=0)


def test_weights_may_change_while_autocast_is_on():
    network = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(196, 3)))
    method = TGradAttribution(network)
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(2):
            method.attribute(images(), target=0)
        network[2].weight.data.mul_(-2)
        assert_close_to_recorded(method, images(), tolerance=0.05, target=0)
        found = network(images())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(images()), found)


def test_masked_elements_that_a_later_call_fills():
    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
            self.fill = nn.Parameter(torch.empty(()))

        def forward(self, x):
            x = self.conv(x)
            kept = x.tanh() * (torch.arange(x.shape[2]) < 4).view(-1, 1) + self.fill
            return self.head((kept * x).sum((2, 3)).tanh())

    network = ready(Filled())
    network.fill.data.zero_()
    method = TGradAttribution(network)
    for _ in range(2):
        method.attribute(images(), target=0)
    network.fill.data.fill_(2)
    for _ in range(2):
        assert_as_recorded(method, images(), target=0)
