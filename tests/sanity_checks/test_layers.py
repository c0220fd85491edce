"""Which tensors are randomized, in which order, and that they really change."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from captum_tgrad.sanity_checks.layers import Layer, block_names, layers_from_the_output
from captum_tgrad.sanity_checks.randomize import randomize
from tests.sanity_checks.networks import Bare, images, network


def names(model, x, wanted=None):
    layers, _ = layers_from_the_output(model, lambda: model(x), wanted)
    return [layer.name for layer in layers]


def test_from_the_classifier_to_the_input():
    assert names(network(), images()) == ["6", "3", "1", "0"]


def test_order_is_that_of_use_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(4, 3)
            self.twice = nn.Conv2d(3, 3, 3, padding=1)
            self.first = nn.Conv2d(3, 3, 3, padding=1)
            self.end = nn.Conv2d(3, 4, 3)
            self.never = nn.Linear(4, 3)

        def forward(self, x):
            x = self.twice(self.first(self.twice(x).relu()).relu()).relu()
            return self.last(self.end(x).mean((2, 3)))

    assert names(Backwards(), images()) == ["last", "end", "twice", "first"]


def test_bare_parameters_and_statistics_without_parameters():
    model = Bare()
    assert names(model, images()) == ["body", "Bare"]
    assert names(nn.Sequential(model), images()) == ["0.body", "0"]
    statistics = nn.Sequential(nn.BatchNorm2d(3, affine=False)).eval()
    (layer,), _ = layers_from_the_output(statistics, lambda: statistics(images()))
    (mean, of_mean), (variance, of_variance) = layer.tensors
    assert mean is statistics[0].running_mean
    assert variance is statistics[0].running_var
    assert (of_mean, of_variance) == (False, True)


def test_a_projection_that_another_module_uses():
    torch.manual_seed(0)
    model = nn.MultiheadAttention(4, 2, batch_first=True).eval()
    x = torch.rand(2, 3, 4)
    layers, _ = layers_from_the_output(model, lambda: model(x, x, x)[0])
    assert {layer.name for layer in layers} == {"out_proj", "MultiheadAttention"}


def test_a_use_that_cannot_be_seen():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(context, x, weight):
            return x * weight

    class Hidden(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return Double.apply(x, self.weight)

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Hidden(), nn.Conv2d(3, 3, 1))
    assert names(model, images()) == ["2", "1", "0"]


def test_shared_parameters_belong_to_the_layer_nearest_to_the_output():
    first, last = nn.Linear(4, 4), nn.Linear(4, 4)
    first.weight = last.weight
    layers, _ = layers_from_the_output(
        model := nn.Sequential(first, nn.ReLU(), last), lambda: model(torch.rand(2, 4))
    )
    assert [layer.name for layer in layers] == ["2", "0"]
    assert [len(layer.tensors) for layer in layers] == [2, 1]


def test_a_layer_whose_parameters_all_belong_to_others_is_left_out():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Tanh(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    assert names(model, torch.rand(2, 4)) == ["2"]


def test_reading_a_shape_or_a_device_is_no_use():
    class Reading(nn.Sequential):
        def forward(self, x):
            x = super().forward(x).to(self[0].weight.device)
            return x.expand(len(x), *self[0].bias.shape)

    assert names(Reading(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)), torch.rand(2, 4)) == [
        "2",
        "0",
    ]


def test_named_layers_hold_all_that_is_in_them():
    model = nn.Sequential(network()[:3], network()[3:])
    assert names(model, images(), ["0", "1.3", "1"]) == ["1", "1.3", "0"]
    assert names(model, images(), (name for name in ["0", "1.3", "1"])) == ["1", "1.3", "0"]
    layers, _ = layers_from_the_output(model, lambda: model(images()), ["0", "1"])
    assert [layer.name for layer in layers] == ["1", "0"]
    variances = [[is_variance for _, is_variance in layer.tensors] for layer in layers]
    assert variances == [[False] * 3, [False] * 5 + [True]]
    model = nn.Sequential(nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(3))).eval()
    (layer,), _ = layers_from_the_output(model, lambda: model(images()), ["0"])
    assert [is_variance for _, is_variance in layer.tensors] == [False] * 6 + [True] * 2


def test_integers_and_buffers_of_other_modules_are_not_learned():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.count = nn.Parameter(torch.tensor(2), requires_grad=False)
            self.register_buffer("running_mean", torch.ones(1))

        def forward(self, x):
            return x * self.count - self.running_mean

    assert names(nn.Sequential(nn.Conv2d(3, 3, 1), Own()), images()) == ["0"]


def test_tracing_changes_nothing():
    model = network().eval().requires_grad_(False)
    model[0].weight.requires_grad_()
    before = copy.deepcopy(model.state_dict())
    layers_from_the_output(model, lambda: model(images()))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(module.training for module in model.modules())
    trainable = [name for name, each in model.named_parameters() if each.requires_grad]
    assert trainable == ["0.weight"]
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 0.1, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_equal_values_change_too(value, dtype):
    tensor = torch.full((50,), value, dtype=dtype)
    variance = torch.ones(50, dtype=dtype)
    randomize(Layer("", ((tensor, False), (variance, True))), torch.Generator().manual_seed(0))
    assert bool(tensor.isfinite().all())
    assert len(tensor.unique()) > 40
    assert bool((variance > 0).all())
    assert len(variance.unique()) > 40


def test_values_keep_mean_and_spread_within_the_cut():
    generator = torch.Generator().manual_seed(0)
    tensor = 3 + 2 * torch.randn(20_000, generator=generator, dtype=torch.float64)
    before = tensor.clone()
    randomize(Layer("", ((tensor, False),)), generator)
    # scipy.stats.truncnorm(-2, 2).std() is 0.8796
    assert float(tensor.mean()) == pytest.approx(float(before.mean()), abs=0.05)
    assert float(tensor.std()) == pytest.approx(0.8796 * float(before.std()), rel=0.02)
    assert float((tensor - before.mean()).abs().max()) <= 2 * float(before.std())
    assert abs(float(torch.corrcoef(torch.stack([tensor, before]))[0, 1])) < 0.03


@pytest.mark.parametrize(
    ("value", "is_variance", "spread"), [(0.0, False, 0.1), (-3.0, False, 1.5), (4.0, True, 0.5)]
)
def test_the_spread_of_equal_values(value, is_variance, spread):
    tensor = torch.full((20_000,), value, dtype=torch.float64)
    randomize(Layer("", ((tensor, is_variance),)), torch.Generator().manual_seed(0))
    middle = np.log(value) if is_variance else value
    tensor = tensor.log() if is_variance else tensor
    assert float(tensor.mean()) == pytest.approx(middle, abs=0.03)
    assert float(tensor.std()) == pytest.approx(0.8796 * spread, rel=0.02)  # as above
    assert float((tensor - middle).abs().max()) <= 2 * spread


def test_a_variance_of_zero_stays_a_variance():
    variance = torch.tensor([0.0, 1.0, 2.0])
    randomize(Layer("", ((variance, True),)), torch.Generator().manual_seed(0))
    assert bool((variance >= 0).all())
    assert bool(variance.isfinite().all())


def test_the_same_seed_gives_the_same_values():
    values = []
    for seed in (0, 0, 1):
        tensor = torch.linspace(-1, 1, 10)
        randomize(Layer("", ((tensor, False),)), torch.Generator().manual_seed(seed))
        values.append(tensor)
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_blocks_in_lists_of_modules_are_found_and_unused_ones_are_left_out():
    body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Sequential(nn.ReLU(), nn.Flatten()))
    model = nn.ModuleDict({"body": body, "heads": nn.ModuleList([nn.Linear(8, 2)])})
    model["spare"] = nn.Linear(2, 2)

    def forward():
        return model["heads"][0](model["body"](torch.rand(1, 3, 2, 2)))

    assert block_names(model, forward) == ["body.0", "heads.0"]


def test_a_subclass_of_a_list_is_one_block():
    class Block(nn.Sequential):
        pass

    model = nn.Sequential(Block(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Linear(2, 2))
    assert block_names(model, lambda: model(torch.ones(1, 2))) == ["0", "1"]


def test_what_belongs_to_no_block_is_a_block_of_its_own():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.ones(1, 1, 2))
            self.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

        def forward(self, x):
            return self.blocks(torch.cat([self.token, x], 1))

    model = Tokens()

    def forward():
        return model(torch.ones(1, 3, 2))

    names = block_names(model, forward)
    assert names == ["blocks.0", "blocks.1", ""]
    layers, _ = layers_from_the_output(model, forward, names)
    assert [layer.name for layer in layers] == ["blocks.1", "blocks.0", "Tokens"]
    assert [tuple(id(tensor) for tensor, _ in layer.tensors) for layer in layers[2:]] == [
        (id(model.token),)
    ]
