"""What the trace sees, what it calls it, and what it says of what it cannot see."""

import threading
import warnings

import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _conv() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 3, padding=1).double()
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    return conv


def test_a_complete_decomposition_does_not_warn():
    conv = _conv()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = TGradAttribution(lambda x: conv(x).sum((1, 2, 3))).decompose(X)
    # 36 places, each with the biases 1, -2 and 3.
    torch.testing.assert_close(whole["conv2d"].score, torch.full((2,), 72.0, dtype=torch.float64))


def test_names():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = _conv()
            self.register_buffer("shift", torch.ones(3, 1, 1, dtype=torch.float64))

        def forward(self, x):
            x = self.conv(F.relu(self.conv(x)))
            return x * torch.sigmoid(x) + self.shift

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Block()

        def forward(self, x):
            return (self.block(x) - 0.5).sum((1, 2, 3))

    whole = TGradAttribution(Network()).decompose(X)
    assert [term.name for term in whole.terms] == [
        "input",
        "block.conv",
        "block.conv#2",
        "block:sigmoid",
        "block:mul",
        "block:add",
        "sub",
    ]


def test_a_parameter_is_still_one_inside_the_forward():
    seen = []
    weight = nn.Parameter(torch.ones(3, 1, 1, dtype=torch.float64))

    def forward(x):
        seen.append((weight.requires_grad, weight.is_leaf, type(weight)))
        return (x * weight + weight).sum((1, 2, 3))

    whole = TGradAttribution(forward).decompose(X)
    assert seen == [(True, True, nn.Parameter)]
    assert [term.name for term in whole.biases] == ["add"]
    assert weight.grad is None


def test_a_weight_computed_beforehand_is_a_constant():
    parameter = torch.rand(3, 1, 1, dtype=torch.float64, requires_grad=True)
    scale = parameter * 2  # has a graph of its own, that the inputs are not part of
    whole = TGradAttribution(lambda x: (x * scale).sum((1, 2, 3))).decompose(X)
    assert whole.biases == []
    torch.testing.assert_close(whole.input.score, (X * scale.detach()).sum((1, 2, 3)))


def test_what_a_bias_is_made_of_may_be_overwritten_later():
    def forward(x):
        saturated = F.relu6(8 * x)
        saturated += 1  # overwrites that by which saturated units are known
        gated = saturated * saturated.mean((2, 3), keepdim=True)
        gated -= 1  # overwrites the product of which the gate's bias is made
        return gated.sum((1, 2, 3))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = TGradAttribution(forward).decompose(X)
    plain = F.relu6(8 * X)
    mean = plain.mean((2, 3), keepdim=True) + 1
    gated = (plain + 1) * mean
    scores = {term.name: term.score for term in whole.biases}
    torch.testing.assert_close(scores["mul"], -gated.sum((1, 2, 3)))
    # The derivative of sum(s * mean(s)) with respect to each element of s is 2 mean(s).
    torch.testing.assert_close(scores["relu6"], (2 * mean * 6 * (plain == 6)).sum((1, 2, 3)))


def test_two_threads_do_not_disturb_each_other():
    models = [nn.Sequential(_conv(), nn.SiLU(), nn.Flatten(), nn.Linear(108, 2).double())] * 2
    inputs = [X, X.flip(0) * 2]
    expected = [TGradAttribution(models[0]).decompose(x, target=1) for x in inputs]
    actual: list = [None, None]

    def run(number):
        for _ in range(20):
            actual[number] = TGradAttribution(models[number]).decompose(inputs[number], target=1)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(actual, expected, strict=True):
        assert [term.name for term in one.terms] == [term.name for term in other.terms]
        for term, wanted in zip(one.terms, other.terms, strict=True):
            torch.testing.assert_close(term.positive, wanted.positive)
