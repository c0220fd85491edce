"""Gradients that a network takes in its forward pass, and hooks that take them."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from captum_tgrad import TGradAttribution
from tests.decomposition.checks import (
    assert_complete,
    assert_input_term_is_gradient_times_input,
    assert_same_maps,
    randn,
)

X = randn(2, 3, 6, 6)


def _weighed(x):
    return (x * torch.linspace(0, 2, x.shape[2], dtype=x.dtype)[:, None] ** 2).flatten(1).sum(1)


def test_a_gradient_inside_the_forward_disturbs_nothing():
    conv = nn.Conv2d(3, 3, 3, padding=1).double()

    def looks(x):
        y = F.silu(conv(x))
        out = _weighed(y)
        torch.autograd.grad(out.sum(), y, retain_graph=True)
        return out

    assert_same_maps(looks, lambda x: _weighed(F.silu(conv(x))), X)


def test_a_gradient_that_is_part_of_the_output():
    def force(x):
        (gradient,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
        return _weighed(gradient)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(X)
    scores = torch.stack([term.score for term in whole.terms])
    torch.testing.assert_close(scores.sum(0), _weighed(4 * X**3))


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_a_gradient_through_a_recurrent_layer_that_is_part_of_the_output(kind, samples):
    # Its samples are in the second dimension, and as many as steps.
    layer, x = kind(3, 4, batch_first=True).double(), torch.randn(samples, 4, 3).double()

    def force(x):
        z = x * 1.0
        (gradient,) = torch.autograd.grad(layer(z)[0].sum(), z, create_graph=True)
        return (gradient * z).sum((1, 2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(x)
    assert_complete(whole)
    assert_input_term_is_gradient_times_input(whole, force, x)


SECOND = {
    "einsum": lambda x: torch.einsum("nij,nkj->nik", x, x.sin()),
    "cross entropy": lambda x: F.cross_entropy(
        x.transpose(1, 2), torch.zeros(2, 5, dtype=torch.long), reduction="none"
    ),
    "RMS norm": lambda x: F.rms_norm(x, (4,)),
    "bilinear": lambda x: F.bilinear(x[:, 0], x[:, 1], _ramp(3, 4, 4)),
    "LSTM cell": lambda x: torch.lstm_cell(x[:, 0] * 2, (x[:, 1], x[:, 2]), *CELL)[0],
    "GRU cell": lambda x: torch.gru_cell(x[:, 0] * 2, x[:, 1], *(w[:12] for w in CELL)),
    "network": lambda x: (F.silu(x @ _ramp(4, 6) + 0.1) @ _ramp(6, 3)).tanh(),
}


def _ramp(*shape):
    return torch.linspace(-1, 1, math.prod(shape)).double().cos().reshape(shape)


CELL = _ramp(16, 4), _ramp(16, 4).sin()


@pytest.mark.parametrize("name", SECOND)
def test_a_gradient_of_a_gradient_reads_inner_and_freed_results(name):
    x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).double()

    def network(x):
        y = SECOND[name](F.dropout(x, 0.5))
        (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        return gradient.square().sum((1, 2)) + y.flatten(1).sum(1)

    def after(run):
        torch.manual_seed(0)
        found = run()
        return found, torch.get_rng_state()

    leaf = x.clone().requires_grad_()
    (output, gradient), expected = after(
        lambda: ((out := network(leaf)).detach(), torch.autograd.grad(out.sum(), leaf)[0])
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "A hidden operation loses", UserWarning)
        warnings.filterwarnings("ignore", "forward_func draws random numbers", UserWarning)
        whole, state = after(lambda: TGradAttribution(network).decompose(x, channel_dim=2))
    total = torch.stack([term.score for term in whole.terms]).sum(0)
    torch.testing.assert_close(total, output, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(whole.input.score, (gradient * x).sum((1, 2)))
    assert state.equal(expected)


def test_a_hidden_operation_on_a_freed_tensor_is_no_constant():
    layer, x, runs = nn.Linear(2, 2).double(), torch.randn(1, 3, 2).double(), []

    def network(x):
        runs.append(x)
        z = x * 1.0
        cubes = checkpoint(lambda z: layer(z) ** 3, z, use_reentrant=False)
        (gradient,) = torch.autograd.grad(cubes.sum(), z, create_graph=True)
        return gradient.sum((1, 2))

    explainer = TGradAttribution(network)
    for expected in (2, 3):  # the first call runs again, and later calls keep all tensors
        whole = explainer.decompose(x, channel_dim=2)
        assert len(runs) == expected
        assert_complete(whole)
    assert_input_term_is_gradient_times_input(whole, network, x)


def test_torch_func_inside_the_forward():
    energy = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    force = torch.func.vmap(torch.func.grad(lambda z: energy(z).sum()))
    x = X[:, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        whole = TGradAttribution(force).decompose(x, target=2)
    scores = torch.stack([term.score for term in whole.terms])
    torch.testing.assert_close(scores.sum(0), force(x)[:, 2].detach())


def test_a_gradient_of_a_constant_inside_the_forward():
    def forward(x):
        z = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad((z**3).sum(), z)
        return _weighed(x * slope)

    whole = TGradAttribution(forward).decompose(X)
    assert [term.name for term in whole.biases] == []
    torch.testing.assert_close(whole.input.score, _weighed(X * 3 * X**2))


def test_a_hook_that_takes_a_gradient_at_a_constant_is_refused():
    """The backward pass of a deep equilibrium model, with the way out that the error names."""
    weights = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)).double() / 8
    inputs = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)).double()

    def solution(x):
        z = torch.zeros_like(x)
        for _ in range(60):
            z = torch.tanh(z @ weights + x)
        return z

    def solved(gradient, at, result):
        """The solution of ``r = gradient + J' r``, where ``J`` is the Jacobian at the solution."""
        solved = gradient
        for _ in range(60):
            solved = gradient + torch.autograd.grad(result, at, solved, retain_graph=True)[0]
        return solved

    def hooked(x):
        with torch.no_grad():
            z = solution(x)
        z = torch.tanh(z @ weights + x)
        at = z.detach().requires_grad_()
        result = torch.tanh(at @ weights + x)
        z.register_hook(lambda gradient: solved(gradient, at, result))
        return z.sum(1)

    class Solution(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            z = solution(x)
            context.save_for_backward(x, z)
            return z

        @staticmethod
        def backward(context, gradient):
            x, z = (tensor.detach().requires_grad_() for tensor in context.saved_tensors)
            with torch.enable_grad():
                result = torch.tanh(z @ weights + x)
            return torch.autograd.grad(result, x, solved(gradient, z, result))[0]

    with pytest.raises(
        ValueError, match=r"a hook takes a gradient .*as a torch\.autograd\.Function"
    ):
        TGradAttribution(hooked).attribute(inputs)
    found = TGradAttribution(lambda x: Solution.apply(x).sum(1)).decompose(inputs)
    torch.testing.assert_close(found.output, solution(inputs).sum(1))
    assert_complete(found, atol=1e-12)
    slope = torch.autograd.functional.jacobian(lambda x: solution(x).sum(), inputs)
    torch.testing.assert_close(found["input"].score, (slope * inputs).sum(1))
