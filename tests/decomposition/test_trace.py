"""What the trace sees, what it calls it, and what it says of what it cannot see."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import assert_complete, assert_input_term_is_gradient_times_input

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _conv() -> nn.Conv2d:
    conv = nn.Conv2d(3, 3, 3, padding=1).double()
    with torch.no_grad():
        conv.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    return conv


def test_a_complete_decomposition_does_not_warn():
    conv = _conv()
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

    whole = TGradAttribution(forward).decompose(X)
    plain = F.relu6(8 * X)
    mean = plain.mean((2, 3), keepdim=True) + 1
    gated = (plain + 1) * mean
    scores = {term.name: term.score for term in whole.biases}
    torch.testing.assert_close(scores["mul"], -gated.sum((1, 2, 3)))
    # The derivative of sum(s * mean(s)) with respect to each element of s is 2 mean(s).
    torch.testing.assert_close(scores["relu6"], (2 * mean * 6 * (plain == 6)).sum((1, 2, 3)))


def _slot(tokens, z):
    tokens[:, 1] = z
    return tokens


def _view(tokens, z):
    tokens.view(len(tokens), -1)[:, 4:8] = z
    return tokens


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize(
    "write",
    [
        _slot,
        _view,
        lambda tokens, z: tokens.add_(z[:, None]),
        lambda tokens, z: tokens[:, 1].copy_(z).new_ones(()) * tokens,
        lambda tokens, z: tokens.index_copy_(1, torch.tensor([1]), z[:, None]),
    ],
)
@pytest.mark.parametrize("trainable", [True, False])
def test_the_input_may_be_written_into_a_tensor_of_parameters(write, trainable, samples):
    table, project, head = (nn.Embedding(3, 4), nn.Linear(5, 4), nn.Linear(4, 2))
    for module in (table, project, head):
        module.double().requires_grad_(trainable)
    x = torch.randn(samples, 5).double()

    def network(image):
        z = project(image)
        tokens = write(table(torch.arange(3).expand(len(image), 3)), z)
        return head(tokens.tanh().mean(1) + z)

    whole = TGradAttribution(network).decompose(x, target=0)
    assert_input_term_is_gradient_times_input(whole, lambda x: network(x)[:, 0], x)
    assert_complete(whole, atol=1e-12)


class Cached(nn.Module):
    """Keeps the transpose of its weight."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 4).double())
        self.transposed = None

    def forward(self, x):
        if self.transposed is None:
            self.transposed = self.weight.T
        return x @ self.transposed


def test_what_a_model_keeps_of_a_parameter_still_trains_it():
    model, x = Cached(), torch.randn(2, 4).double()
    TGradAttribution(model).attribute(x, target=0)
    model(x).sum().backward()
    torch.testing.assert_close(model.weight.grad, x.sum(0).expand(2, 4))


def _at_a_constant(h):
    return torch.autograd.functional.jacobian(lambda z: (z.tanh() * h).sum(), torch.ones_like(h))


def _at_a_parameter(h):
    weight = nn.Parameter(torch.ones(h.shape[1]).double())
    return torch.autograd.grad((h * weight).square().sum(), weight)[0]


def _into_a_parameter(h):
    weight = nn.Parameter(torch.ones(h.shape[1]).double())
    (h * weight).square().sum().backward()
    return weight.grad


@pytest.mark.parametrize("take", [_at_a_constant, _at_a_parameter, _into_a_parameter])
def test_a_gradient_at_a_constant_is_refused(take):
    linear = nn.Linear(4, 3).double()
    with pytest.raises(ValueError, match="Compute the gradient outside"):
        TGradAttribution(lambda x: (linear(x) + take(linear(x))).sum(1)).decompose(
            torch.ones(2, 4).double()
        )


def test_an_attribution_inside_the_forward_explains_its_own_function():
    head, x = nn.Linear(3, 2).double(), X
    found = []

    def network(image):
        gate = image.mean((2, 3)).sigmoid()
        inner = TGradAttribution(lambda z: head(z.mean((2, 3)) * gate))
        found.append(inner.decompose(image.detach(), target=0))
        return head(image.mean((2, 3)) * gate)

    TGradAttribution(network).attribute(x, target=0)
    plain = TGradAttribution(lambda z: head(z.mean((2, 3)) * x.mean((2, 3)).sigmoid()))
    expected = plain.decompose(x, target=0)
    assert [term.name for term in found[0].terms] == [term.name for term in expected.terms]
    torch.testing.assert_close(found[0].delta, torch.zeros(2).double())


def test_hooks_of_a_compiled_module_run():
    compiled = torch.compile(nn.Linear(4, 2).double(), backend="eager")
    compiled.register_forward_hook(lambda module, inputs, output: output / 10)
    x = torch.randn(2, 4).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of torch, as the trace has hooks
        whole = TGradAttribution(compiled).decompose(x, target=0)
        torch.testing.assert_close(whole.output, compiled(x)[:, 0])


def test_a_scripted_batch_norm_in_training_mode_is_refused():
    norm = nn.BatchNorm2d(3).double()
    network = nn.Sequential(torch.jit.script(nn.Sequential(norm)), nn.Flatten(), nn.Linear(75, 2))
    before = norm.running_mean.clone()
    with pytest.raises(ValueError, match=r"batch norm '0.0' is in training mode"):
        TGradAttribution(network.double()).decompose(X[..., :5, :5], target=0)
    assert torch.equal(norm.running_mean, before)


def test_an_operation_that_draws_nothing_leaves_the_generator_alone(monkeypatch):
    states = []
    monkeypatch.setattr(torch, "set_rng_state", lambda state: states.append(state))
    TGradAttribution(lambda x: F.mish(x).exp().sum((1, 2, 3))).decompose(X)
    assert not states


def test_an_interrupt_while_hooks_are_removed_leaves_modules_usable(monkeypatch):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(108, 2)).double().eval()
    plain = network(X)

    def interrupted(handle):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("torch.utils.hooks.RemovableHandle.remove", interrupted)
        with pytest.raises(KeyboardInterrupt):
            TGradAttribution(network).attribute(X, target=0)
    modules = nn.modules.module
    hooks = (
        modules._global_forward_hooks,
        modules._global_forward_hooks_always_called,
        modules._global_forward_pre_hooks,
    )
    try:
        assert torch.equal(network(X), plain)
        network.train()(X)  # is not taken for a forward pass that is traced
    finally:
        for each in hooks:
            each.clear()
    assert not modules._has_any_global_hook()
